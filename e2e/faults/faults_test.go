package faults

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

var (
	which = flag.String("faults", "", "run the faults whose names match this; empty: none, since they take minutes")
	out   = flag.String("table", "", "file that the table is written to; empty: only the log")
)

// TestFaults is make faults.
func TestFaults(t *testing.T) {
	if *which == "" {
		t.Skip("make faults runs it")
	}
	want, err := regexp.Compile(*which)
	if err != nil {
		t.Fatal(err)
	}
	bin, err := filepath.Abs(filepath.Join("..", "..", "bin"))
	if err != nil {
		t.Fatal(err)
	}
	s := Start(t, bin)
	var rows []Row
	defer func() {
		Table(t.Output(), rows)
		if *out != "" {
			f, err := os.Create(*out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			Table(f, rows)
		}
		for i, r := range s.replicas {
			if t.Failed() {
				t.Logf("control plane %d logged:\n%s", i, r.text())
			}
		}
	}()
	for _, f := range Faults() {
		if want.MatchString(f.Name) {
			row := s.Run(t, f)
			t.Logf("%+v", row)
			rows = append(rows, row)
		}
	}
}
