package enforce

import "time"

// shape notes in a denial that its deciding limit lets requests wait for their turn. clearsAt is 0 where that is not known.
func (e *Enforcer) shape(a *Admission, plan, limit string, clearsAt, now int64) {
	p, ok := e.cfg.Directory.Current().Plan(plan)
	if !ok {
		return
	}
	for i := range p.Limits {
		l := &p.Limits[i]
		if l.Key != limit || l.Shape == nil || clearsAt == 0 && l.Concurrency == 0 { // what never clears is not waited for
			continue
		}
		a.Shape = l.Shape
		if clearsAt > now {
			a.ClearsIn = time.Duration(clearsAt-now) * time.Microsecond
		}
		return
	}
}
