#!/usr/bin/perl
# Runs the image's fcgiwrap chrooted into the slot that /webroot/cgi names now, listening on a
# socket of the host. Before the first deploy it waits: there is nothing to run.
use strict;
use warnings;
use POSIX qw(setuid setgid);
use Socket;

my ($path, $root, $program) = ("/run/fcgiwrap.sock", "/webroot/cgi", "/usr/sbin/fcgiwrap");
my (undef, undef, $uid, $gid) = getpwnam("www-data") or die "no user www-data";

select(undef, undef, undef, 0.2) until -x "$root$program";
unlink $path;
socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
bind($listener, sockaddr_un($path)) or die "bind $path: $!";
chmod 0666, $path;
listen($listener, 64) or die "listen: $!";
chroot($root) or die "chroot $root: $!";
chdir("/") or die "chdir: $!";
open(STDIN, "<&", $listener) or die "dup: $!";
setgid($gid);
setuid($uid);
%ENV = (PATH => "/usr/local/bin:/usr/bin:/bin");
# One process: the children of `-c 2` outlive it, in the slot where they began.
exec($program, "-f") or die "exec $program: $!";
