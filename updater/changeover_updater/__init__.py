"""What is done about it: sync, stations, generations, plan, update, rollback, and the command line."""
