package enforce

import (
	"time"

	"github.com/tallystick/tallystick/internal/core/catalog"
)

// shape notes in a denial that its deciding limit lets requests wait for their turn. clearsAt is 0 where that is not known; what
// never clears is not waited for.
func (a *Admission) shape(l *catalog.Limit, clearsAt, now int64) {
	if l.Shape == nil || clearsAt == 0 && l.Concurrency == 0 {
		return
	}
	a.Shape = l.Shape
	if clearsAt > now {
		a.ClearsIn = time.Duration(clearsAt-now) * time.Microsecond
	}
}
