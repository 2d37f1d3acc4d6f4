package htfile

import "fmt"

// Findings describe the lines of a file. They never contain a hash.
type Findings struct {
	Valid          int       // number of valid lines
	InvalidCount   int       // number of invalid lines
	Invalid        []Finding // the first MaxFindings of them
	DuplicateCount int       // number of lines whose user has an earlier line
	Duplicates     []int     // line numbers of the first MaxFindings of them; no names, which could be hashes
}

// Finding is the reason why a line is invalid. The reason never contains a hash.
type Finding struct {
	Line   int    `json:"line"` // from 1
	Reason string `json:"reason"`
}

func (f *Findings) addInvalid(number int, reason string) {
	f.InvalidCount++
	if len(f.Invalid) < MaxFindings {
		f.Invalid = append(f.Invalid, Finding{number, reason})
	}
}

func (f *Findings) addDuplicate(number int) {
	f.DuplicateCount++
	if len(f.Duplicates) < MaxFindings {
		f.Duplicates = append(f.Duplicates, number)
	}
}

// Left returns the number of invalid and duplicate lines that are counted but not
// listed.
func (f *Findings) Left() int {
	return f.InvalidCount - len(f.Invalid) + f.DuplicateCount - len(f.Duplicates)
}

// err returns an error if the file has lines, but no valid one.
func (f *Findings) err(expected string) error {
	if f.Valid > 0 || f.InvalidCount == 0 {
		return nil
	}
	return fmt.Errorf("no valid %s line (invalid lines: %d); line %d: %s",
		expected, f.InvalidCount, f.Invalid[0].Line, f.Invalid[0].Reason)
}
