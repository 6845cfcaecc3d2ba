package kafka

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// examineWait bounds each of the two waits of Examine: for the brokers' answers, and for this process to catch up.
const examineWait = 3 * time.Second

// Examine implements store.Examiner: the topic as it is set up now, and how far this process has applied it.
func (j *Journal) Examine(ctx context.Context) []store.Check {
	if err := j.enter(ctx); err != nil {
		return []store.Check{{Name: "journal replica", Result: store.CheckFail, Detail: err.Error(), Fix: "Start the server again; its log says why it stopped."}}
	}
	defer j.leave()
	asking, cancel := context.WithTimeout(ctx, examineWait)
	defer cancel()
	now, _, err := metadata(asking, j.client, j.cfg.Topic)
	var have map[string]string
	if err == nil {
		have, err = configs(asking, j.client, j.cfg.Topic)
	}
	if err == nil {
		now.end, err = offset(asking, j.client, j.cfg.Topic, -1)
		j.knows(now.end)
	}
	if err != nil {
		return []store.Check{{
			Name: "journal topic", Result: store.CheckFail, Detail: fmt.Sprintf("topic %s at %s: %v", j.cfg.Topic, strings.Join(j.cfg.Brokers, ","), err),
			Fix: "See that the brokers run and can be reached, and that the user may describe, read and write the topic.",
		}}
	}
	now.take(have)
	return append(j.topicChecks(&now, have), j.replicaCheck(ctx, now.end))
}

// topicChecks judge the topic.
func (j *Journal) topicChecks(now *topic, have map[string]string) []store.Check {
	what := store.Check{Name: "journal topic", Result: store.CheckOK, Detail: fmt.Sprintf("%s, 1 partition, %d commands", j.cfg.Topic, now.end)}
	if now.id != j.topic.id || now.cluster != j.topic.cluster {
		what = store.Check{
			Name: "journal topic", Result: store.CheckFail, Detail: fmt.Sprintf("topic %s was deleted and made anew since this server was started", j.cfg.Topic),
			Fix: "Stop the servers and keep their folders: docs/journal-kafka.md tells how to go on.",
		}
	}
	retention := store.Check{Name: "journal retention", Result: store.CheckOK, Detail: "every command is kept"}
	if faults := keeps(have); len(faults) > 0 {
		retention = j.failed("journal retention", faults[0])
		if j.cfg.AnyRetention && faults[0].name != cleanup {
			retention.Result = store.CheckWarn
			retention.Fix = "The URL accepts that (retention=any): keep newer backups of a server's folder than what is dropped."
		}
	}
	size := store.Check{Name: "journal command size", Result: store.CheckOK, Detail: fmt.Sprintf("a command may have %d bytes", now.valueMax)}
	if faults := now.takes(have); len(faults) > 0 {
		size = j.failed(size.Name, faults[0])
	} else if now.valueMax < j.topic.valueMax {
		size.Result, size.Detail = store.CheckWarn, fmt.Sprintf("max.message.bytes was lowered to %s since this server was started", have["max.message.bytes"])
		size.Fix = "Start the servers again, or raise it to what it was: larger batches are refused until then."
	}
	return []store.Check{what, retention, j.copiesCheck(now), size}
}

func (j *Journal) failed(name string, f fault) store.Check {
	return store.Check{Name: name, Result: store.CheckFail, Detail: fmt.Sprintf("%s=%s, %s", f.name, f.value, f.why), Fix: strings.ToUpper(f.fix(j.cfg.Topic)[:1]) + f.fix(j.cfg.Topic)[1:] + "."}
}

// copiesCheck judges what is lost with a broker.
func (j *Journal) copiesCheck(now *topic) store.Check {
	c := store.Check{
		Name: "journal copies", Result: store.CheckOK,
		Detail: fmt.Sprintf("%d of %d copies in sync, min.insync.replicas=%d", now.inSync, now.replicas, now.inSyncMin),
	}
	switch faults := now.copies(); {
	case len(faults) > 0:
		return j.failed(c.Name, faults[0])
	case now.inSync < now.inSyncMin:
		c.Result, c.Fix = store.CheckFail, "Bring the missing brokers back: until then the topic takes no command."
	case now.replicas == 1:
		c.Result, c.Fix = store.CheckWarn, "With one copy the loss of a disk loses acknowledged usage: give the topic three, and min.insync.replicas=2."
	case now.inSync < now.replicas:
		c.Result, c.Fix = store.CheckWarn, "Bring the missing brokers back."
	}
	return c
}

// replicaCheck waits a little for this process to have applied what is there.
func (j *Journal) replicaCheck(ctx context.Context, end int64) store.Check {
	ctx, cancel := context.WithTimeout(ctx, examineWait)
	defer cancel()
	err := j.reach(ctx, end)
	s := j.Replica()
	c := store.Check{Name: "journal replica", Result: store.CheckOK, Detail: fmt.Sprintf("has applied all %d commands", end)}
	switch {
	case s.Failed:
		c.Result, c.Detail, c.Fix = store.CheckFail, err.Error(), "Start the server again; if it fails again, docs/journal-kafka.md tells how to go on."
	case err != nil:
		c.Result, c.Detail = store.CheckWarn, strconv.FormatInt(end-s.Applied, 10)+" commands behind, of "+strconv.FormatInt(end, 10)
		c.Fix = "A server that was away applies what came meanwhile; if it does not get nearer, see its disk and its log."
	case s.Foreign > 0:
		c.Result, c.Detail = store.CheckWarn, fmt.Sprintf("%s; %d records are no commands and were passed over", c.Detail, s.Foreign)
		c.Fix = "Find out who else writes to the topic: only tally may."
	}
	return c
}
