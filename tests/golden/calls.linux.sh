# arm
verb_arm fedcba9876543210 A 90 cgi-1.0
# check
verb_check 2.5 test -x 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
# confirm
verb_confirm fedcba9876543210
# cover
each_service() {
:
"$1" nginx restart if-used 30 '' 2 nginx 'php fpm' systemctl restart nginx
"$1" worker restart always 30 '' 1 worker sv restart 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" php_fpm graceful if-used 3 '' 1 'php-fpm*' systemctl reload php_fpm
"$1" cgis kill if-used 30 www-data 1 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" moved command if-used 30 '' 1 d mv '{pids}'
}
verb_cover fedcba9876543210 A
# disarm
verb_disarm fedcba9876543210
# drain
each_service() {
:
"$1" nginx restart if-used 30 '' 2 nginx 'php fpm' systemctl restart nginx
"$1" worker restart always 30 '' 1 worker sv restart 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" php_fpm graceful if-used 3 '' 1 'php-fpm*' systemctl reload php_fpm
"$1" cgis kill if-used 30 www-data 1 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" moved command if-used 30 '' 1 d mv '{pids}'
}
verb_drain fedcba9876543210 A 30
# erase
verb_erase fedcba9876543210 A
# erase-for-mirrors
verb_erase fedcba9876543210 B 7db23d8a909d42ffe9d3221bc27e60f4a8b525dcbf2963ecea9cf1a9deee3251 90 4711 http://m/ab 'file:/it'"'"'s; $(rm -rf /) `x` \ "q" *'
# fetch
verb_fetch fedcba9876543210 abababababababababababababababababababababababababababababababab 4711 90 4711 http://m/ab 'file:/it'"'"'s; $(rm -rf /) `x` \ "q" *'
# fill
verb_fill fedcba9876543210 A 200704 85ba88fd42671bdaa5fe3fba797dcca6960cbe0b58c962d70caccaf61828fcb8 65536
# flip
verb_flip fedcba9876543210 B
# judge
verb_judge fedcba9876543210 B bad
# lock
verb_lock fedcba9876543210 'ann @ desk rm -rf /'
# lock-and-probe
take_lock fedcba9876543210 ann
did
each_restart() {
:
"$1" nginx
"$1" worker sv
"$1" php_fpm
"$1" moved mv
}
verb_probe
did
hold_lock
# mount
verb_mount fedcba9876543210 B squashfs
# patch
verb_patch fedcba9876543210 B 200704 85ba88fd42671bdaa5fe3fba797dcca6960cbe0b58c962d70caccaf61828fcb8 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd abababababababababababababababababababababababababababababababab
# preflight
each_trial() {
:
"$1" cgi 'cgi /cgi-bin/it'"'"'s' nobody 10 0 200 'it'"'"'s; $(rm -rf /) `x` \ "q" *' 'it'"'"'s; $(rm -rf /) `x` \ "q" *' 15 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin GATEWAY_INTERFACE=CGI/1.1 SERVER_PROTOCOL=HTTP/1.1 SERVER_SOFTWARE=flipslot SERVER_NAME=localhost SERVER_PORT=80 REMOTE_ADDR=127.0.0.1 REQUEST_METHOD=POST QUERY_STRING= 'SCRIPT_NAME=/cgi-bin/it'"'"'s' 'SCRIPT_FILENAME=/cgi-bin/it'"'"'s' REDIRECT_STATUS=200 CONTENT_LENGTH=29 CONTENT_TYPE=application/x-www-form-urlencoded 'HTTP_COOKIE=it'"'"'s; $(rm -rf /) `x` \ "q" *' '/cgi-bin/it'"'"'s' 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" command 'command test -x '"'"'it'"'"'"'"'"'"'"'"'s; $(rm -rf /) `x` \ "q" *'"'"'' www 3 1 '' '' '' 2 PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C test -x 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" ldd 'ldd /usr /it'"'"'s; $(rm -rf /) `x` \ "q" *' nobody 120 0 '' '' '' 2 'libnss_*' 'it'"'"'s; $(rm -rf /) `x` \ "q" *' /usr '/it'"'"'s; $(rm -rf /) `x` \ "q" *'
}
verb_preflight fedcba9876543210 B
# probe
each_restart() {
:
"$1" nginx
"$1" worker sv
"$1" php_fpm
"$1" moved mv
}
verb_probe
# prove
verb_prove fedcba9876543210 B cgi-1.0 uzip 65536 abababababababababababababababababababababababababababababababab cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd
# pull
verb_pull fedcba9876543210 B 200704 85ba88fd42671bdaa5fe3fba797dcca6960cbe0b58c962d70caccaf61828fcb8 65536 90 4711 http://m/ab 'file:/it'"'"'s; $(rm -rf /) `x` \ "q" *'
# restart
each_service() {
:
"$1" nginx restart if-used 30 '' 2 nginx 'php fpm' systemctl restart nginx
"$1" worker restart always 30 '' 1 worker sv restart 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" php_fpm graceful if-used 3 '' 1 'php-fpm*' systemctl reload php_fpm
"$1" cgis kill if-used 30 www-data 1 'it'"'"'s; $(rm -rf /) `x` \ "q" *'
"$1" moved command if-used 30 '' 1 d mv '{pids}'
}
verb_restart fedcba9876543210 A 120 kill
# seal
verb_seal fedcba9876543210 A cgi-1.0 uzip 200704 85ba88fd42671bdaa5fe3fba797dcca6960cbe0b58c962d70caccaf61828fcb8 7db23d8a909d42ffe9d3221bc27e60f4a8b525dcbf2963ecea9cf1a9deee3251
# stage
verb_stage fedcba9876543210 abababababababababababababababababababababababababababababababab 4711 17
# unlock
verb_unlock
# unmount
verb_unmount fedcba9876543210 A clean
# users
verb_users B
