//go:build !tally_forgetful

package authority

// unknownOwed says that of a bucket, what nobody can tell of owes all that it can: the part of a holder that is gone, and the whole
// when the authority begins anew. The build tag tally_forgetful takes that out, for one purpose: test/chaos must then fail.
const unknownOwed = true
