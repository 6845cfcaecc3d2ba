package store

import "context"

// Spool is a gateway's own append log: reservations before forwarding, settlements before answers. Records survive kill -9
// when Append returns; Sync makes them survive a power cut.
type Spool interface {
	// Append writes one record. Payload ≤ 4 KiB. With reserve > 0 it also sets room for that many further bytes aside, so that
	// the matching AppendReserved cannot fail for lack of space. ErrFull: nothing was written, or the stated bound is reached.
	// The record is encoded by fill inside the spool's lock, so that order in the file is the order of fill calls.
	Append(reserve int, fill func(dst []byte) []byte) (offset int64, err error)
	// AppendReserved writes a record into room set aside earlier and gives the rest of that room (reserve bytes) back.
	AppendReserved(reserve int, fill func(dst []byte) []byte) (offset int64, err error)
	Sync(ctx context.Context) error
	// Read calls each for records from offset on, at most max bytes; next is where to go on. It sees all finished appends.
	Read(from int64, max int, each func(offset int64, payload []byte) error) (next int64, err error)
	// Truncate drops whole segments that end at or before offset.
	Truncate(before int64) error
	Start() int64 // first offset kept
	End() int64   // offset behind the last record
	Close() error
}
