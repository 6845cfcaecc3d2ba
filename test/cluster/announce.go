package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tallystick/tallystick/test/fleet"
)

// place is where a node is, as it is printed.
type place struct {
	Name    string `json:"name"`
	API     string `json:"api"`
	Gateway string `json:"gateway,omitempty"`
	PID     int    `json:"pid"`
	Leading bool   `json:"leading,omitempty"`
}

func (c *cluster) places(ctx context.Context, nodes []*fleet.Node) (out []place) {
	for _, n := range nodes {
		p := place{Name: n.Name, API: "http://" + n.API, PID: n.Process().PID(), Leading: leads(ctx, n)}
		if n.Door != "" {
			p.Gateway = "http://" + n.Door
		}
		out = append(out, p)
	}
	return out
}

// leads asks a server whether it does.
func leads(ctx context.Context, n *fleet.Node) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.API+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, 100))
	return resp.Body.Close() == nil && err == nil && strings.Contains(string(b), "leading")
}

// announce says what runs where, as tally demo does.
func (c *cluster) announce(ctx context.Context, stdout io.Writer) error {
	var books struct{ Admitted, Reported, Voided, Metered, Rated, Unpriced, Difference string }
	var invoices struct{ Items []struct{ Number int64 } }
	var portal struct{ URL string }
	if err := c.fleet.Command(ctx, &books, "books"); err != nil {
		return err
	}
	if err := c.fleet.Command(ctx, &invoices, "invoices", "list"); err != nil {
		return err
	}
	if err := c.fleet.Command(ctx, &portal, "portal", "acme"); err != nil {
		return err
	}
	issued := int64(0)
	for _, i := range invoices.Items {
		issued = max(issued, i.Number)
	}
	f := c.fleet
	servers, gateways := c.places(ctx, f.Servers), c.places(ctx, f.Gateways)
	if c.o.output == "json" {
		return json.NewEncoder(stdout).Encode(map[string]any{
			"api": "http://" + f.API.Addr, "gateway": "http://" + f.Doors.Addr, "token": f.Token, "dir": c.o.dir, "logs": c.logs(),
			"keys": map[string]string{"free": "demo_free", "pro": "demo_pro"}, "invoices": issued, "difference": books.Difference,
			"servers": servers, "gateways": gateways, "postgres": map[string]any{"url": c.url(), "pid": c.database.PID()},
		})
	}
	var out strings.Builder
	fmt.Fprintf(&out, "  store     PostgreSQL, %s, password in %s/postgres/password\n", c.url(), c.home)
	for _, s := range servers {
		lead := ""
		if s.Leading {
			lead = ", leads"
		}
		fmt.Fprintf(&out, "  server    %s    %s, process %d%s\n", s.API, s.Name, s.PID, lead)
	}
	for _, g := range gateways {
		fmt.Fprintf(&out, "  gateway   %s    %s, process %d\n", g.Gateway, g.Name, g.PID)
	}
	dir := ""
	if c.o.dir != "tally-data" {
		dir = " --dir " + c.o.dir
	}
	fmt.Fprintf(&out, `  together  http://%s and http://%s, through a balancer before each
  logs      %s
  history   %d invoices issued
  books     admitted %s + reported %s − voided %s = metered %s = rated %s + unpriced %s, difference %s
  demo      keys, money and clock are for trying out; the clock can be advanced

  Console   http://%s            token %s
  Portal    %s

  Next, in another shell:
    bin/tally burst demo_free 101%s
    bin/tally explain DECISION_ID%s
    bin/tally burst demo_pro 1000%s
    bin/tally clock advance --to period-end%s
    bin/tally invoices list%s
    kill -9 %d    # a server; whatever ends is started again
  Stop with Ctrl-C; start again and it goes on where it was.
`, f.API.Addr, f.Doors.Addr, c.logs(), issued, books.Admitted, books.Reported, books.Voided, books.Metered, books.Rated, books.Unpriced, books.Difference,
		f.API.Addr, f.Token, portal.URL, dir, dir, dir, dir, dir, servers[0].PID)
	_, err := io.WriteString(stdout, out.String())
	return err
}
