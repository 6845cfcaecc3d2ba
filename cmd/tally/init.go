package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

// decode reads an answer into a value.
func decode(b json.RawMessage, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("the server's answer is not understood: %w", err)
	}
	return nil
}

type initCmd struct {
	Catalog string `help:"Where to write the first catalog file." default:"tally.yaml" type:"path"`
}

// Run makes the data folder with its secrets, and a catalog to begin with unless there is one.
func (c *initCmd) Run(e *env) (err error) {
	f, err := openFolder(e.dataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	for _, name := range []string{"pepper", "operator.token", "session.key", "replay.key"} {
		if _, err := f.secret(name, 32); err != nil {
			return err
		}
	}
	if _, err := f.keyring(); err != nil {
		return err
	}
	wrote := true
	out, err := os.OpenFile(c.Catalog, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	switch {
	case errors.Is(err, os.ErrExist):
		wrote, err = false, nil
	case err == nil:
		_, err = out.Write(demoCatalog)
		err = errors.Join(err, out.Close())
	}
	if err != nil {
		return fmt.Errorf("write the first catalog: %w", err)
	}
	if e.json {
		return printJSON(e.stdout, map[string]any{"dir": f.dir, "catalog": c.Catalog, "catalog_written": wrote})
	}
	_, err = fmt.Fprintf(e.stdout, "Data folder %s and catalog %s are ready.\nNext: tally serve --catalog %s --dir %s\n", f.dir, c.Catalog, c.Catalog, f.dir)
	return err
}
