package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/store/file"
	"github.com/tallystick/tallystick/internal/store/file/export"
	journalfolder "github.com/tallystick/tallystick/internal/store/file/folder"
)

// journalCmd works on the journal of a stopped folder.
type journalCmd struct {
	Check   journalCheckCmd   `cmd:"" help:"Read every segment, block, frame and record, and check all their checksums."`
	Compact journalCompactCmd `cmd:"" help:"Compress the closed segments, and take out what was erased."`
	Export  journalExportCmd  `cmd:"" help:"Write the events as Parquet, a file for each UTC day."`
}

// stopped takes the lock of a data folder that exists, and runs with its journal's folder.
func stopped(e *cli.Env, run func(f *folder, dir string) error) (err error) {
	dir := filepath.Join(e.DataDir(), "journal")
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("%s is no data folder with a journal; name one with --dir: %w", e.DataDir(), err)
	}
	f, err := openFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	return run(f, dir)
}

// table prints names and figures.
func table(w io.Writer, rows ...[2]any) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintf(tw, "%v\t%v\n", r[0], r[1])
	}
	return tw.Flush()
}

type journalCheckCmd struct{}

func (journalCheckCmd) Run(e *cli.Env) error {
	return stopped(e, func(_ *folder, dir string) error {
		r, err := journalfolder.Check(e.Ctx, file.OS{}, dir)
		if err != nil {
			return err
		}
		if e.JSON {
			return cli.PrintJSON(e.Stdout, r)
		}
		return table(e.Stdout, [2]any{"segments", fmt.Sprintf("%d, %d of them sealed", r.Segments, r.Sealed)}, [2]any{"blocks", r.Blocks},
			[2]any{"commits", r.Frames}, [2]any{"records", r.Records}, [2]any{"events", r.Events}, [2]any{"erased", r.Erased},
			[2]any{"bytes", fmt.Sprintf("%d on disk, %d before they were sealed", r.Bytes, r.RawBytes)},
			[2]any{"unfinished", fmt.Sprintf("%d bytes at the end, never acknowledged", r.Torn)}, [2]any{"last position", r.Position})
	})
}

type journalExportCmd struct {
	Out    string `help:"Folder to write to; made if absent." required:"" type:"path" placeholder:"FOLDER"`
	Before string `help:"Only days before this one (UTC), such as 2026-03-01." placeholder:"DAY"`
}

func (c *journalExportCmd) Run(e *cli.Env) error {
	var before time.Time
	if c.Before != "" {
		var err error
		if before, err = time.Parse(time.DateOnly, c.Before); err != nil {
			return fmt.Errorf("--before %q is no day; write it like 2026-03-01", c.Before)
		}
	}
	return stopped(e, func(_ *folder, dir string) (err error) {
		j, err := file.Open(file.Config{Dir: dir})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, j.Close()) }()
		m, err := export.Write(e.Ctx, j, c.Out, before)
		if err != nil {
			return err
		}
		if e.JSON {
			return cli.PrintJSON(e.Stdout, m)
		}
		var rows [][2]any
		for _, f := range m.Files {
			rows = append(rows, [2]any{f.Name, fmt.Sprintf("%d events, %d rows, %d bytes", f.Events, f.Rows, f.Bytes)})
		}
		return table(e.Stdout, append(rows, [2]any{export.ManifestName, fmt.Sprintf("%d files of a tree of size %d", len(m.Files), m.TreeSize)})...)
	})
}
