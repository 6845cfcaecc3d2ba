// Package archive is the sealed form of a journal's closed segments: the same frames and records, byte for byte, in
// compressed blocks that are each checked. A sealed segment is read like a raw one, through segment.File, and a record is
// found by its position with one block read. docs/formats/journal.md describes the form.
//
// Inside a block, records are taken apart into columns (times, ids, texts, values), what repeats in a segment is named by
// its place in a table, and what can be computed (positions, checksums, digests) is left out. A block that would not come
// back byte for byte is stored as it is.
//
// A payload section can be taken out of a record for ever, leaving its commitment: Edit does that while a segment is
// written anew.
package archive
