"""Segments on disk: the history in one directory, written by a thread of its own and read by others.

the engine    store
writing       commit_pipeline (the loop's side), commit_worker (the thread's side), recorder, active_segment,
              rotation, retention, inventory, disk, events, limits
reading       segment_file, sealed_segment
index         index, segment_index
    opening       opening: scan, recovery_plan, apply_plan; tail_recovery and salvage for damaged files
checking      verify, repair
what is there directory, run_directory, run, lock
"""
