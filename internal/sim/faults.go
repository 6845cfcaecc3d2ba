package sim

import (
	"context"
	"errors"
	"time"

	"github.com/tallystick/tallystick/internal/store"
)

// The faults, each counted where it does something.
const (
	loss          = "loss"            // a call or its answer is lost
	delay         = "delay"           // a call arrives when its caller waits no more
	reorder       = "reorder"         // one arrives after a later one of its gateway
	duplicate     = "duplicate"       // one arrives twice
	partition     = "partition"       // one finds its gateway cut off
	slowNode      = "slow node"       // one takes long
	kill          = "kill"            // a process ends
	crashInCall   = "crash in a call" // and in the middle of what it does
	powerCut      = "power cut"       // with its machine
	restart       = "restart"         // it is started again
	tornWrite     = "torn write"      // a power cut takes sectors that no sync made durable
	diskFull      = "disk full"       // the server's disk refuses a write
	spoolFull     = "spool full"      // a gateway's disk does
	clockSkew     = "clock skew"      // a gateway's clock is set off
	catalogChange = "catalog change"  // another catalog is applied
	planChange    = "plan change"     // a customer moves to another plan
	lateEvent     = "late event"      // usage is reported of hours or days ago
	eventAgain    = "event again"     // or once more, or with another content
)

// Faults lists them all.
func Faults() []string {
	return []string{
		loss, delay, reorder, duplicate, partition, slowNode, kill, crashInCall, powerCut, restart, tornWrite, diskFull, spoolFull, clockSkew, catalogChange,
		planChange, lateEvent, eventAgain,
	}
}

// fault begins or ends a fault. Everything heals by itself again, so that a world is never dead for long.
func (w *World) fault(ctx context.Context) {
	g := pick(w, w.gateways)
	switch w.dice.IntN(13) {
	case 0, 1:
		w.crash(g, w.chance(50))
	case 2, 3:
		w.restart(ctx, g)
	case 4:
		if g.cut = !g.cut; g.cut {
			w.note("%s is cut off", g.name)
		} else {
			w.note("%s is connected again", g.name)
		}
	case 5:
		if g.lossy = w.dice.IntN(3) * 20; g.lossy > 0 {
			w.note("%s loses %d of a hundred messages", g.name, g.lossy)
		}
	case 6:
		if g.slow = time.Duration(w.dice.IntN(3)) * 250 * time.Millisecond; g.slow > 0 {
			w.note("%s is slow by %s", g.name, g.slow)
		}
	case 7:
		w.log.Skewed()
		if g.skew = time.Duration(w.dice.IntN(9)-4) * 45 * time.Second; g.skew != 0 {
			w.fire(clockSkew, "%s %s", g.name, g.skew)
		}
	case 8:
		if g.full = !g.full && w.chance(50); g.full {
			w.note("the disk of %s is full", g.name)
		}
	case 9:
		if w.disk.Full = !w.disk.Full && w.chance(50); w.disk.Full {
			w.note("the disk of the server is full")
		}
	case 10:
		if w.server.alive && w.chance(50) {
			w.stopServer(w.chance(50))
		}
		w.startServer(ctx)
	case 11: // in the middle of something, soon
		if w.chance(50) && g.alive {
			g.fuse = 1 + w.dice.IntN(12)
		} else if w.server.alive {
			w.server.fuse = 1 + w.dice.IntN(12)
		}
	case 12:
		if w.server.alive {
			w.disk.Fuse = 1 + w.dice.IntN(10)
		}
	}
	if w.chance(30) {
		w.startServer(ctx)
		w.restart(ctx, g)
	}
	if w.chance(40) { // most faults are short
		g.cut, g.full, w.disk.Full = false, false, false
	}
}

// burn is a moment in which faults that are in force do something by themselves.
func (w *World) burn() {
	for _, g := range w.gateways {
		if g.alive && g.cut && w.chance(4) {
			g.cut = false
			w.note("%s is connected again", g.name)
		}
	}
}

// crash kills a gateway, or cuts its power.
func (w *World) crash(g *gateway, power bool) {
	if !g.alive {
		return
	}
	w.fire(death(power), "%s", g.name)
	g.stop(power)
}

func death(power bool) string {
	if power {
		return powerCut
	}
	return kill
}

// restart starts a gateway that is down.
func (w *World) restart(ctx context.Context, g *gateway) {
	if g.alive {
		return
	}
	w.reap() // it may have died in this very step
	w.fire(restart, "%s", g.name)
	w.must("restart "+g.name, g.start(ctx))
}

func (w *World) stopServer(power bool) {
	torn := w.disk.Torn
	w.fire(death(power), "server")
	if w.server.stop(power); w.disk.Torn > torn {
		w.fire(tornWrite, "server, %d sectors", w.disk.Torn-torn)
	}
}

// reboot starts the server anew, so soon that gateways' leases in memory have not lapsed.
func (w *World) reboot(ctx context.Context) {
	if !w.server.alive {
		return
	}
	if w.chance(50) { // it ends in good order, as far as the authority is concerned
		left, err := w.server.authority.Freeze(ctx)
		w.must("hand the authority over", err)
		w.server.left = left
		w.note("the server hands its authority over")
	}
	w.stopServer(false)
	w.startServer(ctx)
}

func (w *World) startServer(ctx context.Context) {
	if w.server.alive {
		return
	}
	w.reap() // it may have died in this very step
	w.fire(restart, "server")
	w.touched = true
	err := w.server.start(ctx)
	if errors.Is(err, store.ErrFull) && w.disk.Full { // it says so and ends, and is started again later
		w.note("the server cannot start")
		w.server.stop(false)
		return
	}
	w.must("restart the server", err)
	if !w.server.alive || w.failed != nil {
		return
	}
	for _, g := range w.gateways { // streams are opened again
		if g.connected() {
			w.server.attach(g.node)
		}
	}
}

// reap clears up after processes that died in the middle of a call: before they are started again, and after each step.
func (w *World) reap() {
	for _, g := range w.gateways {
		if !g.alive && g.spool != nil {
			g.stop(w.chance(30))
		}
	}
	if !w.server.alive && w.server.store != nil {
		power := w.disk.Fuse == 0 && w.chance(60)
		w.stopServer(power)
	}
}
