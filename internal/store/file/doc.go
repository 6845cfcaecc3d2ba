// Package file keeps the journal in segment files of its own: an append-only log of checksummed records, group commit with
// one write and one fdatasync, and an index that is derived from the log alone: on disk up to a checkpoint, in memory behind
// it. docs/formats/journal.md is the format, docs/adr/0011-index-in-pebble.md says why.
//
// A commit is led by its first waiter; there is no goroutine. It stages a group of batches beside the index (dedup against
// the index and inside the group, rollups, totals, marks), writes them as one frame, syncs, applies them to the index, and
// only then answers. Readers see whole commits that are durable, never more. Positions number all records, not only
// events: they ascend, with gaps between events.
//
// Nothing is ever changed in the log. A revision is a record of its own that points at its event; a call's revisions are one
// commit. What they change is kept as contributions, so that any figure can be read as it was at a position.
//
// Failures. No room (ENOSPC, quota): the part that was written is taken back, the batch gets store.ErrFull, later ones may
// succeed. A failed sync, or any other failed write: store.ErrBroken for ever, since what is on disk is unknown; reading
// still works, the process must stop. When opening, an unfinished commit at the end of the last segment is cut off (see
// Stats.TornBytes); damage elsewhere is store.ErrCorrupt and names file and byte.
//
// Memory does not grow with the events, but with the customers and meters: about 400 bytes for each series, and 16 bytes for
// 32 KiB of log. What no checkpoint has written yet takes 250 bytes an event with many events a bucket, 500 with one
// (TestMemory prints it); that are at most 500,000 events with one reading each, or twice as many while the index
// cannot be written. The base's cache takes 64 MB. The index takes 47 to 77 bytes of disk an event.
//
// Tick writes checkpoints; where that is not called or does not keep up, a commit writes one. When opening, only what no
// checkpoint holds is replayed; damage in what is not replayed is found when it is read.
//
// Two processes must not open one folder; the caller holds the data folder's LOCK.
package file
