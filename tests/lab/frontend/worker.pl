#!/usr/bin/perl
# A long-lived process of the slot: chrooted into it, with a file of it open, until restarted.
# /run/worker.device tells which slot it holds, by device number.
use strict;
use warnings;

my ($root, $file) = ("/webroot/cgi", "/usr/sbin/fcgiwrap");
select(undef, undef, undef, 0.2) until -e "$root$file";
open(my $note, ">", "/run/worker.device") or die "note: $!";
chroot($root) or die "chroot $root: $!";
chdir("/") or die "chdir: $!";
open(my $held, "<", $file) or die "open $file: $!";
print $note +(stat("/"))[0], "\n";
close($note);
$0 = "worker";
sleep 3600 while 1;
