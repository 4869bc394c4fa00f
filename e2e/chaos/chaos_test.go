package chaos

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"sync"
	"testing"
)

var (
	which = flag.String("chaos", "",
		"run scenarios whose names match this at length; empty: none, since it takes minutes")
	beside = flag.Bool("beside", false, "run them with HAProxy and nginx too")
	out    = flag.String("table", "", "file that the table is written to; empty: only the log")
)

func TestMain(m *testing.M) {
	if os.Getenv(BackendVariable) != "" {
		if err := Backend(os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// atOnce is how many scenarios of the short form run beside each other: they wait more than they compute.
const atOnce = 4

// TestChaos is the short form: no request fails that another endpoint could have served.
func TestChaos(t *testing.T) {
	slots := make(chan struct{}, atOnce)
	var all sync.WaitGroup
	for _, s := range scenarios() {
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			t.Run(s.name, func(t *testing.T) {
				res := play(t, s, s.gateway(), short)
				t.Logf("%+v", res)
				res.check(t, s)
			})
		})
	}
	all.Wait()
}

// TestChaosAtLength is make chaos.
func TestChaosAtLength(t *testing.T) {
	if *which == "" {
		t.Skip("make chaos runs it")
	}
	want, err := regexp.Compile(*which)
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]result
	defer func() {
		table(t.Output(), rows)
		if *out != "" {
			f, err := os.Create(*out)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			table(f, rows)
		}
	}()
	for _, s := range scenarios() {
		if !want.MatchString(s.name) {
			continue
		}
		t.Run(s.name, func(t *testing.T) {
			var row []result
			for _, p := range s.proxies() {
				t.Run(p.name(), func(t *testing.T) {
					res := play(t, s, p, long)
					t.Logf("%+v", res)
					if p.name() == (gateway{}).name() {
						res.check(t, s)
					}
					row = append(row, res)
				})
			}
			rows = append(rows, row)
		})
	}
}

// proxies returns those that go through a scenario.
func (s *scenario) proxies() []proxy {
	if *beside && !s.alone {
		return []proxy{s.gateway(), &haproxy{}, &nginx{}}
	}
	return []proxy{s.gateway()}
}
