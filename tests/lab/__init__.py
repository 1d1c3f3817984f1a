"""Real frontends on one machine: namespaces, sshd, partitions as slots, chrooted services."""
