"""History: every tick ever published, in files that ordinary tools read, and the way back from them.

segment     the format: blocks, feet, the journal of the open block
shelf       which blocks of a run there are, in order, and what is missing between them
volume      one segment on disk: reading its blocks, walking its feet
catalog     a directory of runs: its lock, its index, recovery after a crash
recorder    writing: compression, flushes, closing blocks, rotation, retention
archive     the loop's side of reading: shelves, decoded blocks in a bounded cache, loads under way
keeper      the loop's side of writing: a thread, the hand-over to it, when ticks may be shown, health
restoring   from a directory to what memory keeps: recovery run by run, the bus as it was
frames      files of other writers: zstd frames that may be torn, and grow
content     what is in one such file, while it grows
lines       such a file line by line, known by its content
runs        which runs its lines make
foreign     a directory of such files: which comes after which, and how far it was read
reels       portions of such files, read where they lie
inplace     such a directory as history, read in place
"""
