package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tallystick/tallystick/internal/app/authority"
	"github.com/tallystick/tallystick/internal/app/baseline"
	"github.com/tallystick/tallystick/internal/app/bill"
	"github.com/tallystick/tallystick/internal/app/billrun"
	"github.com/tallystick/tallystick/internal/app/clock"
	"github.com/tallystick/tallystick/internal/app/collect"
	"github.com/tallystick/tallystick/internal/app/correct"
	"github.com/tallystick/tallystick/internal/app/credits"
	"github.com/tallystick/tallystick/internal/app/enforce"
	"github.com/tallystick/tallystick/internal/app/export"
	"github.com/tallystick/tallystick/internal/app/govern"
	"github.com/tallystick/tallystick/internal/app/inbox"
	"github.com/tallystick/tallystick/internal/app/ingest"
	"github.com/tallystick/tallystick/internal/app/nodes"
	"github.com/tallystick/tallystick/internal/app/notify"
	"github.com/tallystick/tallystick/internal/app/receive"
	"github.com/tallystick/tallystick/internal/app/recount"
	"github.com/tallystick/tallystick/internal/app/refund"
	"github.com/tallystick/tallystick/internal/app/replay"
	"github.com/tallystick/tallystick/internal/app/seal"
	"github.com/tallystick/tallystick/internal/app/usage"
	"github.com/tallystick/tallystick/internal/app/whatif"
	"github.com/tallystick/tallystick/internal/core/account"
	"github.com/tallystick/tallystick/internal/store"
	"github.com/tallystick/tallystick/internal/store/file/tree"
	"github.com/tallystick/tallystick/internal/store/queue"
	"github.com/tallystick/tallystick/internal/store/spool"
	"github.com/tallystick/tallystick/internal/web/node"
	"github.com/tallystick/tallystick/internal/web/session"
)

// gatewayNode is the number of the gateway in the process of a server that has its records to itself.
const gatewayNode = 1

// Intervals of the loops, in real time.
const (
	shipEvery      = 50 * time.Millisecond
	syncEvery      = 10 * time.Millisecond
	indexEvery     = 250 * time.Millisecond
	billEvery      = 5 * time.Second
	authorityEvery = time.Second
	sealEvery      = time.Second
	booksEvery     = 5 * time.Second
	clockEvery     = 5 * time.Second
	recountEvery   = 500 * time.Millisecond
	pruneEvery     = 10 * time.Minute
	settledMax     = 10 * time.Second // how long a close waits for running requests before it is tried again
	billFaults     = 20               // failing rounds of closes in a row before the rest waits for the next tick
	retryBackoff   = 500 * time.Millisecond
)

// server is one process with all roles: it owns the stores, the services and their loops.
type server struct {
	ports
	apart
	storage
	dir   string
	mode  account.Mode
	grace time.Duration
	// keepEvents is how long the content of events is kept; 0: for ever.
	keepEvents time.Duration
	catalog    string // a file, applied at start
	demo       bool   // history is being seeded: billing waits until it is there
	upstream   string // of the demo

	member    *member // of several servers; nil: the records are this process's own
	node      uint16  // of the enforcement in this process
	folder    *folder
	records   store.Records
	journal   store.Keeper
	spool     *spool.Spool
	clock     *clock.Clock
	govern    *govern.Service
	credits   *credits.Service
	receive   *receive.Receiver
	authority *authority.Service
	enforce   *enforce.Enforcer
	nodes     *nodes.Service
	hub       *node.Server
	ingest    *ingest.Service
	bill      *bill.Service
	whatIf    *whatif.Service
	billrun   *billrun.Service
	queue     *queue.Queue
	jobFaults chan error // of a store that failed in a job: the process must stop
	collect   *collect.Service
	usage     *usage.Service
	recount   *recount.Service
	correct   *correct.Service
	inbox     *inbox.Service
	notify    *notify.Service
	exports   *export.Service
	refunds   *refund.Book
	baseline  *baseline.Service
	tiles     *tree.Tree
	seal      *seal.Service
	replays   *replay.Replays
	salts     *salts
	signer    *session.Signer

	serving atomic.Bool // ready for traffic
	billing atomic.Bool // periods may be closed
}

// open brings the stores and services up, in the order in which they need each other.
func (s *server) open(ctx context.Context) error {
	pepper, err := s.folder.secret("pepper")
	if err != nil {
		return err
	}
	if err := s.openStores(ctx); err != nil {
		return err
	}
	if err := s.claim(ctx); err != nil {
		return err
	}
	load, save := s.clockStore(ctx)
	if s.clock, err = clock.New(clock.Config{Real: realNow, Test: s.mode == "test", Load: load, Save: save}); err != nil {
		return err
	}
	if s.nodes, err = nodes.New(ctx, nodes.Config{Records: s.records, Now: s.clock.Now, Random: rand.Reader, Pepper: pepper}); err != nil {
		return err
	}
	if err := s.takeNode(ctx); err != nil {
		return err
	}
	if s.govern, err = govern.New(ctx, govern.Config{
		Records: s.records, Journal: s.journal, Now: s.clock.Now, Random: rand.Reader, Pepper: pepper, Mode: s.mode,
	}); err != nil {
		return fmt.Errorf("load the records: %w", err)
	}
	if err := s.openNotices(); err != nil {
		return err
	}
	if err := s.openCredits(ctx); err != nil {
		return err
	}
	if err := s.openEnforce(ctx); err != nil {
		return err
	}
	s.clock.Raise(s.enforce.LastSeen())
	if err := s.openNodes(pepper); err != nil {
		return err
	}
	if s.ingest, err = ingest.New(ingest.Config{
		Directory: s.govern, Journal: s.journal, Now: s.clock.Now, Counted: s.counted, Flush: s.flush,
	}); err != nil {
		return err
	}
	if err := s.openDoors(s.enforce, s.govern.Current); err != nil {
		return err
	}
	if err := s.openSeal(ctx); err != nil {
		return err
	}
	if s.usage, err = usage.New(usage.Config{
		Directory: s.govern, Journal: s.journal, Now: s.clock.Now, Flush: s.flush, Lag: s.lag,
	}); err != nil {
		return err
	}
	if s.recount, err = recount.New(recount.Config{
		Directory: s.govern, Journal: s.journal, Records: s.records, Reread: s.ingest.Reread, Resolve: s.ingest.Resolve, Now: s.clock.Now, Random: rand.Reader,
		Counted: s.counted, Flush: s.flush,
	}); err != nil {
		return err
	}
	if err := s.openBilling(ctx); err != nil {
		return err
	}
	if err := s.openExports(ctx); err != nil {
		return err
	}
	s.clock.OnAdvance(s.beforeAdvance, s.afterAdvance)
	s.billing.Store(!s.demo)
	return s.openSecrets()
}

// openBilling readies what closes periods, and what becomes of invoices.
func (s *server) openBilling(ctx context.Context) (err error) {
	if err := s.openQueue(ctx); err != nil {
		return err
	}
	if s.bill, err = bill.New(bill.Config{
		Directory: s.govern, Journal: s.journal, Invoices: s.records, Coupons: s.govern, Balances: s.records, Now: s.clock.Now, Grace: s.grace, Settled: s.settled, Seal: s.seal.SealCloses, Log: s.log,
	}); err != nil {
		return err
	}
	if s.whatIf, err = whatif.New(whatif.Config{Directory: s.govern, Journal: s.journal, Rater: s.bill, Now: s.clock.Now}); err != nil {
		return err
	}
	if err := s.openBillingRuns(); err != nil {
		return err
	}
	if err := s.openCorrections(); err != nil {
		return err
	}
	return s.openCollections(ctx)
}

// openEnforce brings up the quota authority, and the gateway's enforcement on its leases.
func (s *server) openEnforce(ctx context.Context) error {
	rebooted, err := s.rebooted(ctx)
	if err != nil {
		return err
	}
	ring, err := s.folder.keyring()
	if err != nil {
		return err
	}
	sender, err := s.openReceiver(ctx)
	if err != nil {
		return err
	}
	memory, err := s.takeMemory(ctx)
	if err != nil {
		return err
	}
	started := realNow()
	if s.authority, err = authority.New(authority.Config{
		Directory: s.govern, Leases: s.records, Journal: s.journal, Now: s.clock.Now, Mono: func() time.Duration { return realNow().Sub(started) },
		Local: s.node, Rebooted: rebooted, Torn: s.spool.Recovery().Torn(), Memory: memory, Run: rand.Text(), Log: s.log,
		Credits: s.credits.Units,
		Usage:   s.govern.UsageAt, Wallet: s.credits.Wallet,
	}); err != nil {
		return err
	}
	if s.enforce, err = enforce.Open(ctx, enforce.Config{
		Directory: s.govern, Spool: s.spool, Authority: s.authority, Past: enforce.JournalPast{Journal: s.journal}, Keyring: ring, Node: s.node,
		Boot: bootID(), Now: s.clock.Now, Real: realNow, Torn: s.spool.Recovery().Torn(), Strict: s.SpoolSync == "strict", Log: s.log,
		Deliver: sender.Deliver, Notice: s.notify.Passed, Others: s.authority,
		Spending: s.spending,
	}); err != nil {
		return fmt.Errorf("take up the gateway's work: %w", err)
	}
	s.authority.Register(s.node, s.enforce)
	s.refunds = refund.New(s.records, s.enforce.Refunds)
	return nil
}

// deploymentKind is the setting that says what a folder's deployment is, for ever: live, test or demo.
const (
	deploymentKind = "deployment.kind"
	lastBoot       = "gateway.boot"
	kindDemo       = "demo"
)

// claim marks a new folder with the kind of its deployment, and refuses another: a demo's keys are known to everybody, and a
// test clock can be advanced.
func (s *server) claim(ctx context.Context) error {
	kind := string(s.mode)
	if s.demo {
		kind = kindDemo
	}
	have, err := s.records.Setting(ctx, deploymentKind)
	if err != nil {
		return err
	}
	if have == "" {
		return s.records.PutSetting(ctx, deploymentKind, kind)
	}
	place, other := s.dir, "folder with --dir"
	if s.shared() {
		place, other = "the database of --records", "database"
	}
	if have != kind && s.demo {
		return fmt.Errorf("%s holds a deployment that is not the demo's and is left alone; name another %s", place, other)
	}
	if have != kind {
		start := "tally serve --mode " + have
		if have == kindDemo {
			start = "tally demo"
		}
		return fmt.Errorf("%s holds a %s deployment and cannot be served as %s; start it with %s, or name another %s", place, have, kind, start, other)
	}
	return nil
}

// rebooted says whether the machine was started anew since the folder was last served, and remembers this boot.
func (s *server) rebooted(ctx context.Context) (bool, error) {
	setting := lastBoot
	if s.node != gatewayNode {
		setting = fmt.Sprintf("%s.%d", lastBoot, s.node)
	}
	last, err := s.records.Setting(ctx, setting)
	if err != nil {
		return false, err
	}
	boot := bootID()
	return last != "" && (boot == "" || boot != last), s.records.PutSetting(ctx, setting, cmp.Or(boot, "unknown"))
}

func (s *server) openStores(ctx context.Context) (err error) {
	if s.member != nil {
		s.records = s.member.records()
	} else {
		s.records, err = openRecords(ctx, s.folder, s.Records)
	}
	if err != nil {
		return err
	}
	s.salts = newSalts(s.records)
	if s.journal, err = s.takeJournal(ctx); err != nil {
		return err
	}
	if s.spool, err = spool.Open(spool.Config{Dir: s.folder.path("spool")}); err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	if r := s.spool.Recovery(); r.Unfinished {
		s.log.InfoContext(ctx, "the last run ended in the middle of a write to the spool; nothing that was answered is missing", slog.Int64("bytes", r.Bytes))
	}
	return nil
}

// openReceiver readies the step in front of the journal, and the gateway's end that signs for it. The key file is made at first
// start; a removed one is made anew, and the old public key stays on record.
func (s *server) openReceiver(ctx context.Context) (sender *receive.Sender, err error) {
	if s.receive, err = receive.New(ctx, receive.Config{Journal: s.journal, Records: s.records, Now: s.clock.Now, Random: rand.Reader}); err != nil {
		return nil, err
	}
	seed, err := s.folder.own("gateway.key")
	if err != nil {
		return nil, err
	}
	signer, err := receive.NewSigner(seed)
	if err != nil {
		return nil, err
	}
	if _, err := s.receive.Register(ctx, s.node, signer.Public()); err != nil {
		return nil, err
	}
	return receive.NewSender(s.node, signer, s.receive), nil
}

// openSecrets readies what operators and customers sign in with, and says where the server is.
func (s *server) openSecrets() error {
	if err := s.openToken(); err != nil {
		return err
	}
	key, err := s.folder.secret("session.key")
	if err != nil {
		return err
	}
	s.signer = session.New(key, s.endpoint.Token, realNow)
	replayKey, err := s.folder.secret("replay.key")
	if err != nil {
		return err
	}
	if s.replays, err = replay.New(s.records, replayKey, rand.Reader, realNow); err != nil {
		return err
	}
	if err := s.openAccess(); err != nil {
		return err
	}
	if s.metrics == nil { // one of several servers has some already
		s.metrics = newCommonMetrics()
	}
	s.metrics.show(s)
	return s.folder.saveEndpoint(s.endpoint)
}

// openToken reads what operators show.
func (s *server) openToken() error {
	token, err := s.folder.secret("operator.token")
	s.endpoint.Token = "tally_op_" + base64.RawURLEncoding.EncodeToString(token)
	return err
}

// settled bounds the wait for running requests when a period closes.
func (s *server) settled(ctx context.Context, before time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, settledMax)
	defer cancel()
	return errors.Join(s.enforce.Settled(ctx, before), s.hub.Settle(ctx, before))
}

// beforeAdvance ships what was decided before the clock moves.
func (s *server) beforeAdvance(ctx context.Context) error { return s.flush(ctx) }

// afterAdvance does all work that became due.
func (s *server) afterAdvance(ctx context.Context) error {
	s.advanced(ctx)
	if err := s.flush(ctx); err != nil || !s.billing.Load() {
		return err
	}
	if err := s.billAll(ctx); err != nil {
		return err
	}
	if err := s.dueCollections(ctx); err != nil {
		return err
	}
	if err := s.dueNotices(ctx); err != nil {
		return err
	}
	return s.compareBooks(ctx)
}

func (s *server) billAll(ctx context.Context) error {
	if !s.billing.Load() {
		return nil
	}
	var last error // of a subscription that could not be closed: the others go on
	for faults := 0; faults < billFaults; {
		more, err := s.bill.Tick(ctx)
		if err != nil {
			last = err
			faults++
		}
		if !more {
			break
		}
	}
	return errors.Join(last, s.seal.Tick(ctx)) // a checkpoint over what was closed
}

func (s *server) compareBooks(ctx context.Context) error {
	b, err := s.bill.Books(ctx, "")
	if err != nil {
		return err
	}
	s.metrics.books(b)
	return nil
}

// loops starts the roles' tickers.
func (s *server) loops(ctx context.Context, g *errgroup.Group) {
	s.every(ctx, g, "ship", shipEvery, func(ctx context.Context) error {
		for {
			more, err := s.enforce.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
	s.every(ctx, g, "authority", authorityEvery, s.authority.Tick)
	s.every(ctx, g, "sync", syncEvery, s.enforce.SyncTick)
	s.every(ctx, g, "index", indexEvery, s.journal.Tick)
	s.jobLoops(ctx, g)
	s.every(ctx, g, "seal", sealEvery, s.seal.Tick)
	s.every(ctx, g, "books", booksEvery, s.compareBooks)
	s.every(ctx, g, "recount", recountEvery, func(ctx context.Context) error {
		for {
			more, err := s.recount.Tick(ctx)
			if err != nil || !more {
				return err
			}
		}
	})
	s.every(ctx, g, "compact", compactEvery, s.compact)
	s.every(ctx, g, "clock", clockEvery, func(context.Context) error { return s.clock.Persist() })
	s.every(ctx, g, "prune", pruneEvery, s.replays.Prune)
	s.correctionLoops(ctx, g)
	s.noticeLoops(ctx, g)
	s.exportLoops(ctx, g)
	s.collectionLoops(ctx, g)
	s.refundLoops(ctx, g)
	s.doorLoops(ctx, g)
}

// close ends the services and stores, last opened first. It closes what open got to.
func (s *server) close(ctx context.Context) error {
	errs := []error{s.closeDoors(), s.closeExports()}
	if s.enforce != nil {
		errs = append(errs, s.enforce.Close(ctx), s.refunds.Keep(ctx))
		s.leaveMemory(ctx)
	}
	errs = append(errs, s.closeSeal(ctx))
	if s.clock != nil {
		errs = append(errs, s.clock.Persist())
	}
	if s.spool != nil {
		errs = append(errs, s.spool.Close())
	}
	if s.journal != nil {
		errs = append(errs, s.journal.Close())
	}
	if s.queue != nil {
		errs = append(errs, s.queue.Close())
	}
	if s.records != nil {
		errs = append(errs, s.records.Close())
	}
	if s.access != nil {
		errs = append(errs, s.access.Close())
	}
	return errors.Join(errs...)
}
