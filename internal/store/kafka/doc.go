// Package kafka keeps the journal in one partition of a Kafka topic. The topic holds commands (batches, cuts, revisions, documents,
// orders to erase) in one order for all. Every server applies them, in that order and each once, to a journal of files of its own
// (internal/store/file), and answers its callers with what it found there. Since applying is deterministic, all servers come to
// the same positions, digests, rollups and leaves; the topic is the log, and a folder is only what was made of it.
//
// A call returns when this process has applied its command, which is fsynced here and acknowledged by all in-sync replicas there.
// docs/journal-kafka.md tells how to run it, ADR 0025 why it is so.
package kafka
