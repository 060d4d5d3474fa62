"""Who trains the runs of a line: threads of this process, or processes of Ray on any machine."""
