"""History: every tick ever published, in files that ordinary tools read, and the way back from them.

segment     the format: blocks, their feet, marks
block       a block's zstd frame: made, read, cut off
journal     what vouches for the open block
blocks      the block index: what is known of a run's blocks, in little memory
shelf       which blocks of a run there are, in order, and what is missing between them
volume      one segment on disk: reading its blocks, walking its feet
sealed      all of a sealed segment, held against what was written
folders     which folder a run has
stock       whether what was written is still there
stored      what is known of a run: its segments, its blocks, how much it published
index       a cache of a run's feet
catalog     a directory of runs: its lock, what there is
disk        writing all of it, and keeping what is cut out
rescue      blocks whose feet are damaged or missing
recovery    after a crash: the open block is cut back to what is vouched for, and closed
verify      checking a directory: everything is read and held against what stands beside it
repair      mending it: what is damaged is cut out and kept beside
active      the segment that is written to, and its open block
rotation    which segment is written to: opened, sealed, forced to the disk
retention   which segments have to go
limits      what history is kept by, and what is told of it while it is written
recorder    writing: when blocks are closed, what the end of a run means, and what comes after a failure
archive     the loop's side of reading: shelves, decoded blocks in a bounded cache, loads under way
reading     the threads that it reads with
store       a history that is open: its lock, an archive to read it, a keeper to write it
keeper      the loop's side of writing: a thread, the hand-over to it, when ticks may be shown, health
writer      the thread's side: rounds of writing, and what is tried again after a failure
restoring   from a directory to what memory keeps: recovery run by run, the bus as it was
frames      files of other writers: zstd frames that may be torn, and grow
birth       when a file was made
content     what is in one such file, while it grows
waymarks    by which what a cut leaves of such a file is known again
lines       such a file line by line, known by its content
times       when its ticks are taken to have been received
runs        which runs its lines make
roster      which files of a directory were read, and what became of them
foreign     a directory of such files: which comes after which, and how far it was read
reels       portions of such files, read where they lie
inplace     such a directory as history, read in place
"""
