"""What is true of a release on this machine and these shots: facts, checks, runtimes, golden shots."""
