package calc

// rate is written elsewhere; this file goes when it comes.
func rate([]byte) (any, *Fault) {
	return nil, &Fault{Code: CodeInvalid, Detail: "rate is not here yet", Pointer: "/op"}
}
