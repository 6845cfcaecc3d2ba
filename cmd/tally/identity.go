package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tallystick/tallystick/internal/app/clock"
)

// identity is server.json of the data folder of one of several servers: whose spool lies in it. Another folder, of a server that
// takes over, has another one, so that no run and no lease of the first is taken for its own.
type identity struct {
	Deployment string `json:"deployment"`
	Node       uint16 `json:"node"`
	Name       string `json:"name"`
	Token      string `json:"token"` // lets the folder's work be ended through another server
}

const identityFile = "server.json"

// identity reads it; ok is false where there is none yet.
func (f *folder) identity() (id identity, ok bool, err error) {
	b, err := os.ReadFile(f.path(identityFile))
	if errors.Is(err, os.ErrNotExist) {
		return id, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		return id, false, fmt.Errorf("%s: %w", f.path(identityFile), err)
	}
	return id, true, nil
}

// isServers says that a server uses the folder.
func (f *folder) isServers() bool {
	for _, name := range []string{"records.db", identityFile} {
		if _, err := os.Stat(f.path(name)); err == nil {
			return true
		}
	}
	return false
}

// takeNode finds out which node the enforcement in this process is. A folder of one of several servers is given a number of its
// own when it leads for the first time.
func (s *server) takeNode(ctx context.Context) error {
	s.node = gatewayNode
	if s.member == nil {
		return nil
	}
	id, have, err := s.folder.identity()
	if err != nil {
		return err
	}
	deployment, err := s.folder.origin(ctx, s.records)
	if err != nil {
		return err
	}
	if have && id.Deployment != deployment {
		return fmt.Errorf("%s holds the spool of another deployment's server: name another folder with --dir", s.dir)
	}
	if have && !s.revoked(id.Node) {
		s.node = id.Node
		return nil
	}
	name := "server-" + strings.ToLower(rand.Text()[:8])
	n, issued, err := s.nodes.Issue(ctx, "server", name)
	if err != nil {
		return fmt.Errorf("take a number for this server: %w", err)
	}
	b, err := json.MarshalIndent(identity{Deployment: deployment, Node: n.Node, Name: name, Token: issued.Secret}, "", "  ")
	if err != nil {
		return err
	}
	s.node = n.Node
	return writeDurable(s.folder.path(identityFile), append(b, '\n'))
}

func (s *server) revoked(node uint16) bool {
	for _, n := range s.nodes.List() {
		if n.Node == node {
			return !n.RevokedAt.IsZero()
		}
	}
	return true // the records do not know it
}

// clockSetting keeps the business clock of a deployment of several servers.
const clockSetting = "clock"

// clockStore is where the business clock is kept: in the folder, or in the records that all servers have.
func (s *server) clockStore(ctx context.Context) (load func() (clock.State, error), save func(clock.State) error) {
	if s.member == nil {
		return s.folder.clockState, s.folder.saveClock
	}
	ctx = context.WithoutCancel(ctx)
	load = func() (st clock.State, err error) {
		text, err := s.records.Setting(ctx, clockSetting)
		if err == nil && text != "" {
			err = json.Unmarshal([]byte(text), &st)
		}
		return st, err
	}
	save = func(st clock.State) error {
		b, err := json.Marshal(st)
		if err != nil {
			return err
		}
		return s.records.PutSetting(ctx, clockSetting, string(b))
	}
	return load, save
}
