package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/story"
	"github.com/tallystick/tallystick/internal/cli"
)

//go:embed year.yaml
var yearCatalog []byte

// storyTold is a setting of a folder with a story: storyBegun until all of it is there, then storyWhole.
const (
	storyTold  = "demo.story"
	storyBegun = "begun"
	storyWhole = "told"
)

// errDifference says that figures that must agree do not.
var errDifference = errors.New("the story does not add up: a difference is not 0")

// tell runs the story, unless the folder has it already, and prints what came of it. Nothing else runs meanwhile, so that all of
// it is in one order.
func (d *demoCmd) tell(e *cli.Env) error {
	s := &server{ports: ports{listen: d.listen, log: logger(io.Discard)}, dir: e.DataDir(), mode: "test", grace: 0, demo: true}
	s.endpoint.API, s.endpoint.Gateway = "http://"+d.API, "http://"+d.Gateway // where commands find it once it is served
	r, err := s.tell(e.Ctx, cmp.Or(d.Out, filepath.Join(s.dir, "invoices")))
	if err != nil {
		return fmt.Errorf("story: %w", err)
	}
	if e.JSON {
		err = cli.PrintJSON(e.Stdout, r.JSON())
	} else {
		err = r.Print(e.Stdout)
	}
	if err != nil {
		return err
	}
	if r.Differs() {
		return errDifference
	}
	if !d.Serve {
		return nil
	}
	return d.serve(e)
}

// serve stays up over the story's folder.
func (d *demoCmd) serve(e *cli.Env) error {
	s := &server{ports: ports{listen: d.listen, log: logger(e.Stderr)}, dir: e.DataDir(), mode: "test", grace: 0, demo: true}
	return s.run(e.Ctx, func(context.Context) error {
		s.billing.Store(true)
		_, err := fmt.Fprintf(e.Stderr, "\n  Console   %s            token %s\n  Stop with Ctrl-C.\n", s.endpoint.API, s.endpoint.Token)
		return err
	})
}

// tell opens the folder, runs the story, adds it up and writes its documents to a folder.
func (s *server) tell(ctx context.Context, documents string) (r *story.Report, err error) {
	began := realNow()
	floor := make([]byte, heapFloor)
	defer runtime.KeepAlive(floor)
	if s.folder, err = openFolder(s.dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.folder.close()) }()
	if err := s.setClock(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.close(context.WithoutCancel(ctx))) }()
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	r = &story.Report{}
	if err := s.story(ctx, r); err != nil {
		return nil, err
	}
	if err := s.addUp(ctx, r); err != nil {
		return nil, err
	}
	r.Folder = documents
	if r.Files, err = s.storyDocuments(ctx, documents, r.Told.Steps > 0); err != nil {
		return nil, err
	}
	r.Took = realNow().Sub(began)
	return r, nil
}

// storyDocuments writes them after a story that was just told, or into a folder that is not there yet.
func (s *server) storyDocuments(ctx context.Context, dir string, fresh bool) (int, error) {
	if list, err := filepath.Glob(filepath.Join(dir, "*.pdf")); err != nil || !fresh && len(list) > 0 {
		return len(list), err
	}
	return s.writeDocuments(ctx, dir)
}

// setClock lets a new folder's clock stand at the story's beginning.
func (s *server) setClock() error {
	if _, err := os.Stat(s.folder.path("clock.json")); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(s.folder.path("records.db")); !errors.Is(err, os.ErrNotExist) {
		return err // its clock is the machine's
	}
	return s.folder.saveClock(clock.State{Offset: story.Begin().Sub(realNow())})
}

// story tells the year, once.
func (s *server) story(ctx context.Context, r *story.Report) error {
	told, err := s.records.Setting(ctx, storyTold)
	switch {
	case err != nil || told == storyWhole:
		return err
	case told == storyBegun:
		return fmt.Errorf("the folder %s has a part of a story that was broken off: delete it with `tally demo reset --dir %s`", s.dir, s.dir)
	case s.govern.Current().Version > 0:
		return fmt.Errorf("the folder %s is in use: name another one with --dir", s.dir)
	}
	if err := s.records.PutSetting(ctx, storyTold, storyBegun); err != nil {
		return err
	}
	if r.Told, err = story.Run(ctx, story.Config{
		Catalog: yearCatalog, Govern: s.govern, Credits: s.credits, Ingest: s.ingest, Correct: s.correct, Bill: s.bill, Collect: s.collect,
		Advance: s.advanceStory,
	}); err != nil {
		return err
	}
	return s.records.PutSetting(ctx, storyTold, storyWhole)
}

// advanceStory moves the clock, has meanwhile report, and does what became due.
func (s *server) advanceStory(ctx context.Context, to time.Time, meanwhile func(context.Context) error) error {
	s.billing.Store(false)
	if _, err := s.clock.Advance(ctx, to); err != nil {
		return err
	}
	if err := meanwhile(ctx); err != nil {
		return err
	}
	s.billing.Store(true)
	for _, due := range []func(context.Context) error{s.flush, s.journal.Tick, s.billAll, s.collectAll, s.dueNotices} {
		if err := due(ctx); err != nil {
			return err
		}
	}
	return nil
}

// addUp reads what came of it.
func (s *server) addUp(ctx context.Context, r *story.Report) (err error) {
	if r.Table, err = story.Sum(ctx, story.Books{Govern: s.govern, Bill: s.bill, Collect: s.collect}); err != nil {
		return err
	}
	if r.Books, err = s.bill.Books(ctx, ""); err != nil {
		return err
	}
	r.Told.Customers = len(s.govern.Customers())
	r.Ledger, err = s.collect.Check(ctx)
	return err
}
