package account

// KeyFault says why a key does not authenticate; its text is the problem code. Empty: it does.
type KeyFault string

// The faults of a key.
const (
	FaultMissing KeyFault = "key_missing"
	FaultUnknown KeyFault = "key_unknown"
	FaultRevoked KeyFault = "key_revoked"
	FaultExpired KeyFault = "key_expired"
)
