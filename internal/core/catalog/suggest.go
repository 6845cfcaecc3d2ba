package catalog

import "strings"

// maxWord bounds the work of Suggest; no key or field name is longer.
const maxWord = 64

// Suggest is the nearest of candidates to a misspelt word (edit distance ≤ 2 or a third of its length), else "".
// Case does not count; of equally near ones the first wins. A candidate that shares no letter with the word is none.
func Suggest(word string, candidates []string) string {
	if word == "" || len(word) > maxWord {
		return ""
	}
	word = strings.ToLower(word)
	best, nearest := "", max(2, len(word)/3)+1
	for _, candidate := range candidates {
		if len(candidate) > maxWord {
			continue
		}
		limit := min(nearest, len(word), len(candidate))
		if d := distance(word, strings.ToLower(candidate), limit); d < limit {
			best, nearest = candidate, d
		}
	}
	return best
}

// distance is the number of bytes to insert, delete, replace or swap with a neighbour to make b of a; limit when it is that or more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var rows [3][maxWord + 1]int
	for j := range len(b) + 1 {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		row, above, twice := &rows[i%3], &rows[(i+2)%3], &rows[(i+1)%3]
		row[0] = i
		least := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(above[j]+1, row[j-1]+1, above[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], twice[j-2]+1)
			}
			least = min(least, row[j])
		}
		// A swap reaches two rows back, so one more row has to be as far off before giving up.
		if least > limit {
			return limit
		}
	}
	return min(rows[len(a)%3][len(b)], limit)
}
