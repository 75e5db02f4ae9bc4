"""What is read from outside: model snapshots, data sets, SAEs, chat templates, and the embedded family."""
