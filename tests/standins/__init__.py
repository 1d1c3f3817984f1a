"""Stand-ins of commands of systems that no test runs on."""
