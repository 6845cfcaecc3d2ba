package kafka

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tallystick/tallystick/internal/store"
)

// placeName is the file that says what a folder was made of.
const placeName = "kafka.json"

// place ties a folder to a topic, and says up to where it was applied at least: everything before Next, by the time the journal
// was at Position. The journal's own records tell more (file.Journal.Applied), but not of commands at the end that wrote nothing.
type place struct {
	Cluster  string `json:"cluster"`
	Topic    string `json:"topic"`
	ID       string `json:"topic_id"`
	Next     int64  `json:"next_offset"`
	Position uint64 `json:"position"`
}

// takePlace reads the folder's place, or makes it in a folder without a journal. ErrConflict: the folder is of something else.
func takePlace(dir, name string, t *topic) (place, error) {
	now := place{Cluster: t.cluster, Topic: name, ID: hex.EncodeToString(t.id[:])}
	path := filepath.Join(dir, placeName)
	text, err := os.ReadFile(path) //nolint:gosec // the operator's folder
	if errors.Is(err, os.ErrNotExist) {
		held, err := os.ReadDir(dir)
		if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if err == nil && slices.ContainsFunc(held, func(e os.DirEntry) bool { return e.Name() != placeName+".new" }) {
			err = fmt.Errorf("%s holds a journal that was not made of a topic: name another folder, which is made from the topic: %w",
				dir, store.ErrConflict)
		}
		if err == nil {
			err = now.write(dir)
		}
		return now, err
	}
	if err != nil {
		return place{}, err
	}
	var was place
	if err := json.Unmarshal(text, &was); err != nil {
		return place{}, fmt.Errorf("%s: %w: remove the folder, and it is made anew from the topic: %w", path, err, store.ErrCorrupt)
	}
	if was.Cluster != now.Cluster || was.Topic != now.Topic || was.ID != now.ID {
		return place{}, fmt.Errorf("%s was made of topic %s (id %s) of cluster %s, and not of topic %s (id %s) of cluster %s: name the right topic, "+
			"or an empty folder, which is made from the topic: %w", dir, was.Topic, was.ID, was.Cluster, now.Topic, now.ID, now.Cluster, store.ErrConflict)
	}
	return was, nil
}

// write replaces the file durably.
func (p place) write(dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	text, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, placeName)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600) //nolint:gosec // the operator's folder
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	d, err := os.Open(dir) //nolint:gosec // the operator's folder
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
