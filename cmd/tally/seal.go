package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	appseal "github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/cli"
	"github.com/tallystick/tallystick/internal/core/seal"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/tree"
)

// deploymentID is the setting that names the deployment in its checkpoints; sealKeyName is the file of the signing key.
const (
	deploymentID = "deployment.id"
	sealKeyName  = "seal.key"
	treeFolder   = "tree" // below the journal
)

// sealKey reads secrets/seal.key, made on first use: the signing key and the public key, a line each, in note form.
func (f *folder) sealKey(origin string) (signer, verifier string, err error) {
	path := f.secretPath(sealKeyName)
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if signer, verifier, err = seal.NewKey(rand.Reader, origin); err != nil {
			return "", "", err
		}
		b, err = writeFirst(path, []byte(signer+"\n"+verifier+"\n"))
	}
	if err != nil {
		return "", "", fmt.Errorf("the sealing key: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], origin+"+") {
		return "", "", fmt.Errorf("%s is damaged or of another deployment than %s: restore it from a backup", path, origin)
	}
	return lines[0], lines[1], nil
}

// origin names the deployment; the id is made on first use, with the sealing key where that was made before.
func (f *folder) origin(ctx context.Context, records store.Housekeeping) (string, error) {
	id, err := records.Setting(ctx, deploymentID)
	if err != nil || id != "" {
		return seal.Origin(id), err
	}
	if id, err = f.sealedFor(); err != nil {
		return "", err
	}
	return seal.Origin(id), records.PutSetting(ctx, deploymentID, id)
}

// sealedFor is the id of the deployment that the sealing key is of; a new one where there is no key.
func (f *folder) sealedFor() (string, error) {
	b, err := os.ReadFile(f.secretPath(sealKeyName))
	if errors.Is(err, os.ErrNotExist) {
		return strings.ToLower(rand.Text()), nil
	}
	if err != nil {
		return "", fmt.Errorf("the sealing key: %w", err)
	}
	_, verifier, _ := strings.Cut(string(b), "\n")
	name, _, _ := strings.Cut(verifier, "+")
	id := strings.TrimPrefix(name, seal.Origin(""))
	if id == "" || id == name {
		return "", fmt.Errorf("%s is damaged: restore it from a backup", f.secretPath(sealKeyName))
	}
	return id, nil
}

// openSeal brings the sealer up over the open stores.
func (s *server) openSeal(ctx context.Context) error {
	name, err := s.folder.origin(ctx, s.records)
	if err != nil {
		return err
	}
	signer, verifier, err := s.folder.sealKey(name)
	if err != nil {
		return err
	}
	if s.tiles, err = tree.Open(tree.Config{Dir: s.folder.path("journal", treeFolder)}); err != nil {
		return err
	}
	if n := s.tiles.Cut(); n > 0 {
		s.log.WarnContext(ctx, "the stored tree was damaged; it is made again from the log", slog.Int64("hashes", n))
	}
	s.seal, err = appseal.Open(ctx, appseal.Config{
		Seals: s.records, Keys: s.records, Invoices: s.records, Journal: s.journal, Tiles: s.tiles, Signer: signer, Verifier: verifier,
		Now: s.clock.Now, Random: rand.Reader, Log: s.log,
	})
	return err
}

// closeSeal signs what is there, so that a stopped folder is covered by its last checkpoint, and closes the tiles.
func (s *server) closeSeal(ctx context.Context) error {
	if s.seal != nil {
		if _, err := s.seal.Checkpoint(ctx); err != nil {
			s.log.ErrorContext(ctx, "no checkpoint was signed at the end", slog.Any("error", err))
		}
	}
	if s.tiles == nil {
		return nil
	}
	return s.tiles.Close()
}

// auditFolder audits a folder that no server has open.
func auditFolder(e *cli.Env, at cli.Stores, against []byte, key string) (report any, err error) {
	dir := e.DataDir()
	if _, err := os.Stat(filepath.Join(dir, "VERSION")); err != nil {
		return nil, fmt.Errorf("%s is not a data folder: %w", dir, err)
	}
	f, err := openFolder(dir)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.close()) }()
	if at.Secrets != "" {
		f.secrets = at.Secrets
	}
	records, err := openMoved(e.Ctx, f, at.Records)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, records.Close()) }()
	name, err := f.origin(e.Ctx, records)
	if err != nil {
		return nil, err
	}
	_, verifier, err := f.sealKey(name)
	if err != nil {
		return nil, err
	}
	return auditStopped(e.Ctx, f, at.Journal, appseal.Audited{
		Seals: records, Keys: records, Invoices: records, Verifier: verifier, Random: rand.Reader, Against: nonEmpty(against), AgainstKey: key,
	})
}

func nonEmpty(b []byte) []byte {
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	return b
}

// auditStopped opens the journal at a URL (empty: that of the folder) and its tree. A log so damaged that it does not open is a finding.
func auditStopped(ctx context.Context, f *folder, at string, cfg appseal.Audited) (report appseal.Report, err error) {
	journal, err := openJournal(ctx, f, at, 0, erasing{})
	if errors.Is(err, store.ErrCorrupt) {
		return appseal.Report{Findings: []appseal.Finding{{What: "the log is damaged and does not open", Where: err.Error()}}}, nil
	}
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, journal.Close()) }()
	tiles, err := tree.Open(tree.Config{Dir: f.path("journal", treeFolder)})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, tiles.Close()) }()
	cfg.Journal, cfg.Tiles = journal, tiles
	report, err = appseal.Audit(ctx, cfg)
	if n := tiles.Cut(); n > 0 {
		report.Findings = append(report.Findings, appseal.Finding{
			What: "the stored tree was damaged; the server makes it again from the log", Where: f.path("journal", treeFolder), Found: fmt.Sprintf("%d damaged hashes", n),
		})
	}
	return report, err
}
