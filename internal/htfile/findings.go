package htfile

import "fmt"

// Findings are what there is to say about a file after reading it. They never
// hold a hash.
type Findings struct {
	Valid          int       // lines that say what they should
	InvalidCount   int       // lines that do not
	Invalid        []Finding // the first MaxFindings of them
	DuplicateCount int       // lines of users that have an earlier one
	Duplicates     []int     // numbers of the first MaxFindings; what looks like a name can be a hash
}

// Finding says why a line is invalid.
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

// Left returns how many invalid and duplicate lines are counted, but not noted
// one by one.
func (f *Findings) Left() int {
	return f.InvalidCount - len(f.Invalid) + f.DuplicateCount - len(f.Duplicates)
}

// err is an error if the file has lines, but not one valid one.
func (f *Findings) err(expected string) error {
	if f.Valid > 0 || f.InvalidCount == 0 {
		return nil
	}
	return fmt.Errorf("none of its %d lines is a valid %s line; line %d: %s",
		f.InvalidCount, expected, f.Invalid[0].Line, f.Invalid[0].Reason)
}
