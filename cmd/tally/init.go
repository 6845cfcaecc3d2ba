package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/seal"
)

type initCmd struct {
	Secrets string `help:"Folder of the secrets, for several servers; default: secrets in the data folder." type:"path" env:"TALLY_SECRETS" placeholder:"DIR"`
	Catalog string `help:"Where to write the first catalog file." default:"tally.yaml" type:"path"`
}

// Run makes the data folder with its secrets, and a catalog to begin with unless there is one.
func (c *initCmd) Run(e *cli.Env) (err error) {
	f, err := openFolder(e.DataDir())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if err := f.useSecrets(c.Secrets); err != nil {
		return err
	}
	for _, name := range []string{"pepper", "operator.token", "session.key", "replay.key", "webhook.key"} {
		if _, err := f.secret(name); err != nil {
			return err
		}
	}
	if _, err := f.keyring(); err != nil {
		return err
	}
	id, err := f.sealedFor()
	if err != nil {
		return err
	}
	if _, _, err := f.sealKey(seal.Origin(id)); err != nil {
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
	if e.JSON {
		return cli.PrintJSON(e.Stdout, map[string]any{"dir": f.dir, "catalog": c.Catalog, "catalog_written": wrote})
	}
	kept := ""
	if !wrote {
		kept = " (it was there and is left as it is)"
	}
	_, err = fmt.Fprintf(e.Stdout, "Data folder %s and catalog %s%s are ready.\nNext: tally serve --catalog %s --dir %s\n", f.dir, c.Catalog, kept, c.Catalog, f.dir)
	return err
}
