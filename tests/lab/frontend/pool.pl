#!/usr/bin/perl
# A FastCGI server as php-fpm is one: workers chrooted into the slot that /webroot/cgi names, a master
# outside that keeps the socket. HUP is graceful: new workers first, then the old ones end their work.
use strict;
use warnings;
use POSIX qw(setuid setgid);
use Socket;

my ($path, $root, $file) = ("/run/pool.sock", "/webroot/cgi", "/usr/lib/cgi-bin/version");
my ($workers, $backlog) = (4, 512);
my (undef, undef, $uid, $gid) = getpwnam("www-data") or die "no user www-data";

select(undef, undef, undef, 0.2) until -e "$root$file";
unlink $path;
socket(my $listener, AF_UNIX, SOCK_STREAM, 0) or die "socket: $!";
bind($listener, sockaddr_un($path)) or die "bind $path: $!";
chmod 0666, $path;
listen($listener, $backlog) or die "listen: $!";
$listener->blocking(0);

my ($again, %mine) = (1);
$SIG{HUP} = sub { $again = 1 };
$SIG{TERM} = sub { kill "TERM", keys %mine; exit 0 };
while (1) {
    if ($again) {
        $again = 0;
        my @old = keys %mine;
        %mine = map { (start() => 1) } 1 .. $workers;
        kill "TERM", @old;
    }
    1 while waitpid(-1, POSIX::WNOHANG()) > 0;
    select(undef, undef, undef, 0.2);
}

# Returns the pid of a worker that is inside the slot and ready to answer.
sub start {
    pipe(my $ready, my $tell) or die "pipe: $!";
    my $pid = fork() // die "fork: $!";
    if ($pid) {
        close $tell;
        sysread($ready, my $byte, 1);
        return $pid;
    }
    my $over = 0;
    $SIG{HUP} = "DEFAULT";
    $SIG{TERM} = sub { $over = 1 };
    $0 = "pool-worker";
    chroot($root) or die "chroot $root: $!";
    chdir("/") or die "chdir: $!";
    setgid($gid);
    setuid($uid);
    syswrite($tell, "!");
    close $tell;
    until ($over) {
        vec(my $wait = "", fileno($listener), 1) = 1;
        next if select($wait, undef, undef, 0.5) < 1;
        accept(my $client, $listener) or next;
        $client->blocking(1);
        answer($client);
    }
    exit 0;
}

# One request of a connection (FastCGI 1.0, section 3): all that matters of it is whether it is for a CGI.
sub answer {
    my ($client) = @_;
    my $asked = "";
    while (1) {
        my $head = take($client, 8) // return;
        my (undef, $type, undef, $length, $padding) = unpack("CCnnC", $head);
        my $content = take($client, $length + $padding) // return;
        $asked .= $content if $type == 4;
        last if $type == 5 && $length == 0;
    }
    my $body = $asked =~ /slow-cgi/ ? slow() : twice();
    my $padding = -length($body) % 8;
    my $answer = pack("CCnnCC", 1, 6, 1, length($body), $padding, 0) . $body . "\0" x $padding;
    $answer .= pack("CCnnCC", 1, 6, 1, 0, 0, 0) . pack("CCnnCCNx4", 1, 3, 1, 8, 0, 0, 0);
    while (length $answer) {
        my $sent = syswrite($client, $answer);
        next if !defined $sent && $!{EINTR};
        return unless $sent;
        substr($answer, 0, $sent) = "";
    }
    close $client;
}

# With a moment between: an answer is of one image, or it shows.
sub twice {
    my $body = version();
    select(undef, undef, undef, 0.001);
    return "Content-Type: text/plain\r\n\r\n$body" . version();
}

# A program of the slot, which takes a while.
sub slow {
    local $ENV{PATH} = "/bin";
    return scalar qx(/usr/lib/cgi-bin/slow);
}

sub take {
    my ($client, $length) = @_;
    my $got = "";
    while (length $got < $length) {
        my $read = sysread($client, $got, $length - length $got, length $got);
        next if !defined $read && $!{EINTR};
        return undef unless $read;
    }
    return $got;
}

sub version {
    open(my $script, "<", $file) or return "none: $!\n";
    my ($line) = grep { /^echo/ } <$script>;
    return $line =~ /"(version \S+)"/ ? "$1\n" : "none\n";
}
