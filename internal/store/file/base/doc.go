// Package base is the part of the index that lies on disk: a Pebble store that a checkpoint fills with one atomic batch, and
// that can be thrown away at any time, since all of it comes from the log.
//
// Keys begin with a letter for what they hold; numbers in keys are big endian, instants with their sign flipped, so that keys
// sort as they should. Pebble writes no log of its own: a checkpoint counts once it is flushed, together with the position up
// to which it holds the journal. Whoever reads must leave out what lies behind the position that he has taken for the base: a
// batch may be there before its position is.
package base
