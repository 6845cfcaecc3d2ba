package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tallystick/tallystick/internal/app/ingest/wire"
	"github.com/tallystick/tallystick/internal/cli/intake"
	"github.com/tallystick/tallystick/internal/cli/problem"
)

// How long is waited before a batch is sent again that the server could not take: ever longer.
const (
	ingestTries   = 100
	ingestPause   = 100 * time.Millisecond
	ingestLongest = 5 * time.Second
)

type ingestCmd struct {
	File     string `arg:"" help:"File of events, one CloudEvent a line, or a CSV table; .gz and .zst are unpacked; - is stdin."`
	CSV      bool   `help:"It is a CSV table with a header line; names that end with .csv are."`
	Map      string `help:"Which column becomes what: id=request_id,subject=account,time=ts,data.tokens=tokens." placeholder:"T=C,..."`
	Type     string `help:"Type of all events of a table."`
	Source   string `help:"Source of all events of a table."`
	Rejects  string `help:"Write all rejected and conflicting events to this file, one JSON object a line." placeholder:"FILE"`
	Restart  bool   `help:"Start at the first line, not where an interrupted run ended."`
	Tries    int    `help:"How often a batch is sent before giving up when the server is away or full; 10 take half a minute." default:"10"`
	Parallel int    `help:"Batches under way at once; 1 keeps the order of the file." default:"4"`
	// Backfill is the open backfill to load the events into; set by its own command.
	Backfill string `kong:"-"`
}

// Run sends the file and prints how many events have which outcome.
func (c *ingestCmd) Run(e *Env) error {
	if c.Parallel < 1 || c.Parallel > intake.ParallelMax {
		return fmt.Errorf("--parallel must be 1 to %d", intake.ParallelMax)
	}
	if c.Tries < 1 || c.Tries > ingestTries {
		return fmt.Errorf("--tries must be 1 to %d", ingestTries)
	}
	mapping, err := c.mapping()
	if err != nil {
		return err
	}
	cl, err := newClient(e)
	if err != nil {
		return err
	}
	cl.backfill = c.Backfill
	cl.http.Transport = keepConnections(cl.transport(), c.Parallel)
	run := intake.Run{
		Path: c.File, Mapping: mapping, Restart: c.Restart, Rejects: c.Rejects, Parallel: c.Parallel, Notes: e.Stderr,
		Send: func(ctx context.Context, body []byte) ([]intake.Outcome, error) {
			return cl.report(ctx, e, c.Tries, body)
		},
	}
	if intake.Terminal(e.Stderr) {
		run.Progress = intake.NewBar(e.Stderr, e.Now)
	}
	counts, err := run.Do(e.Ctx)
	if err != nil {
		return err
	}
	b, err := json.Marshal(counts)
	if err != nil {
		return err
	}
	return e.print(b, fields("accepted", "duplicate", "conflict", "rejected", "unmatched"))
}

func (c *ingestCmd) mapping() (*intake.Mapping, error) {
	if !c.CSV && !intake.Table(c.File) {
		if c.Map != "" || c.Type != "" || c.Source != "" {
			return nil, errors.New("--map, --type and --source are for tables: add --csv")
		}
		return nil, nil
	}
	if c.Map == "" {
		return nil, errors.New("a table needs --map, for example --map id=request_id,subject=account,time=ts,data.tokens=tokens")
	}
	return intake.ParseMapping(c.Map, c.Type, c.Source)
}

func keepConnections(t *http.Transport, n int) *http.Transport {
	t.MaxIdleConnsPerHost, t.MaxConnsPerHost = n, n
	return t
}

// report sends lines of events until the server has taken them. It carries no Idempotency-Key: events have ids of their own.
func (c *client) report(ctx context.Context, e *Env, tries int, body []byte) ([]intake.Outcome, error) {
	pause := ingestPause
	for try := 1; ; try++ {
		outcomes, after, err := c.reportOnce(ctx, body)
		if err == nil || after < 0 || ctx.Err() != nil {
			return outcomes, err
		}
		if try == tries {
			return nil, fmt.Errorf("given up after %d tries: %w", try, err)
		}
		if e.Wait(ctx, max(pause, min(after, ingestLongest))) != nil {
			return nil, err
		}
		pause = min(2*pause, ingestLongest)
	}
}

// again is 0 when another try may help: nobody listens at the moment, or the connection was cut. Else it is less than 0.
func again(err error) time.Duration {
	for _, passing := range []error{syscall.ECONNREFUSED, syscall.ECONNRESET, syscall.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, passing) {
			return 0
		}
	}
	return -1
}

// reportOnce says too how long to wait before another try; less than 0: another try is of no use.
func (c *client) reportOnce(ctx context.Context, body []byte) ([]intake.Outcome, time.Duration, error) {
	target := c.API + "/v1/events"
	if c.backfill != "" {
		target += "?" + only("backfill", c.backfill).Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, -1, err
	}
	req.Header.Set("Authorization", "Bearer "+c.Token)
	req.Header.Set("Content-Type", wire.TypeLines)
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, again(err), c.unreached(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was read to the end or the command fails
	b, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err != nil {
		return nil, 0, fmt.Errorf("read the answer: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		p := &problem.Answer{Status: resp.StatusCode, Title: resp.Status}
		_ = json.Unmarshal(b, p) // an answer that is no problem document still has its status
		if resp.StatusCode != http.StatusServiceUnavailable {
			return nil, -1, p
		}
		seconds, _ := strconv.Atoi(strings.TrimSpace(resp.Header.Get("Retry-After"))) // none: 0
		return nil, time.Duration(max(0, min(seconds, 60))) * time.Second, p
	}
	var answer struct{ Outcomes []intake.Outcome }
	if err := decode(b, &answer); err != nil {
		return nil, -1, err
	}
	return answer.Outcomes, 0, nil
}
