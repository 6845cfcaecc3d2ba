package meter

// aggregationNames are the words of the catalog, by Aggregation.
func aggregationNames() [TimeWeighted + 1]string {
	return [...]string{
		Count: "count", Sum: "sum", Min: "min", Max: "max", Latest: "latest", Unique: "unique", TimeWeighted: "time_weighted",
	}
}

// String is the catalog's word: "time_weighted". An unknown aggregation is "".
func (a Aggregation) String() string {
	if a > TimeWeighted {
		return ""
	}
	return aggregationNames()[a]
}

// Aggregations lists all, in the order of the constants.
func Aggregations() []Aggregation {
	return []Aggregation{Count, Sum, Min, Max, Latest, Unique, TimeWeighted}
}
