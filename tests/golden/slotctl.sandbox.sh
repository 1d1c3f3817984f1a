RESTART_TIMEOUT_S=120

set_1() {
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
each_service() {
:
"$1" nginx restart if-used 30 '' 2 nginx 'php fpm'
"$1" worker restart always 30 '' 1 worker sv restart 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" php_fpm graceful if-used 3 '' 1 'php-fpm*'
"$1" cgis kill if-used 30 www-data 1 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" moved command if-used 30 '' 1 d mv '{pids}'
}
each_trial() {
:
"$1" cgi 'cgi /cgi-bin/it'"'"'s' nobody 10 0 200 'it'"'"'s; $(rm -rf /) `x` \ "q" *' 'it'"'"'s; $(rm -rf /) `x` \ "q" *' 15 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 SERVER_SOFTWARE=flipslot SERVER_NAME=localhost SERVER_PORT=80 REMOTE_ADDR=127.0.0.1 REQUEST_METHOD=POST QUERY_STRING= 'SCRIPT_NAME=/cgi-bin/it'"'"'s' 'SCRIPT_FILENAME=/cgi-bin/it'"'"'s' REDIRECT_STATUS=200 CONTENT_LENGTH=29 CONTENT_TYPE=application/x-www-form-urlencoded 'HTTP_COOKIE=it'"'"'s; $(rm -rf /) `x` \ "q" *' '/cgi-bin/it'"'"'s' 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" command 'command test -x '"'"'it'"'"'"'"'"'"'"'"'s; $(rm -rf /) `x` \ "q" *'"'"'' www 3 1 '' '' '' 2 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C test -x 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" ldd 'ldd /usr /it'"'"'s; $(rm -rf /) `x` \ "q" *' nobody 120 0 '' '' '' 2 'libnss_*' 'it'"'"'s; $(rm -rf /) `x` \ "q" *' /usr '/it'"'"'s; $(rm -rf /) `x` \ "q" *'
}
each_check() {
:
"$1" required 30 curl -fsS 'http://127.0.0.1/it'"'"'s'
"$1" wanted 3 test -e 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
}
UNCOVERED=stop
DRAIN_S=30
}

set_2() {
SET=static
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
each_service() {
:
}
each_trial() {
:
}
each_check() {
:
}
UNCOVERED=stop
DRAIN_S=30
}

SETS='cgi static'
choose_set() { # NAME
case $1 in
cgi) set_1 ;;
static) set_2 ;;
*) refuse "there is no set '$1' here, but $SETS" ;;
esac
}
slotctl_main "$@"; exit
