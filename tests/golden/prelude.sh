NONCE=0123456789abcdef
SET=cgi
LINK=/webroot/cgi
RECORDS=/var/db/slots
STAGING=/var/db/slots/staging
DEVICE_A=/dev/disk/by-partlabel/cgiA
MOUNT_A=/webroot/cgi1
TARGET_A=cgi1
DEVICE_B=/dev/disk/by-partlabel/cgiB
MOUNT_B='/webroot/it'"'"'s; $(rm -rf /) `x` \ "q" *'
TARGET_B='it'"'"'s; $(rm -rf /) `x` \ "q" *'
each_inner() {
:
"$1" devfs dev '' '' '' rw
"$1" tmpfs tmp '' 64m 1777 rw
"$1" bind home /home '' '' ro
"$1" nfs data nas:/export '' '' rw
"$1" files etc/host '' '' '' rw 'it'"'"'s; $(rm -rf /) `x` \ "q" *' /etc/hosts
}


