// Package faults has a whole system, three control planes on one PostgreSQL and one etcd, three nodes and nine
// writers, go through faults of what it stands on, one after the other, and tells what came of each: commits that
// were acknowledged and are lost or there twice, how long nobody could write, how long the nodes were apart, and what
// readiness said. make faults runs it.
package faults

import (
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// Fault is one thing that goes wrong.
type Fault struct {
	// Name is what it is called in the table.
	Name string
	// Lasts is the time between Begin and End.
	Lasts time.Duration
	// Begin lets it happen, and End mends it.
	Begin, End func(*System)
	// Restores tells that End brings back an older state: what was committed in between is lost by that, and not counted.
	Restores bool
	// Finds tells to register an instance when it is over, and to wait for traffic to reach it.
	Finds bool
	// Skip returns why it can't be had here; nil: it can be had anywhere.
	Skip func(*System) string
}

// Row is what came of a fault.
type Row struct {
	Fault   string
	Skipped string
	// Acknowledged are commits whose writers were told that they are done, while the fault lasted and until the system
	// was whole again.
	Acknowledged int
	// Lost are those of them that the history does not have at the revision that was told, Twice those that it has more
	// than once, and Against those that it has though their writers were told that they were refused.
	Lost, Twice, Against int
	// Unknown are commits whose writers were told that it is not known, or nothing, and Done those of them that are in
	// the history.
	Unknown, Done int
	// Longest is the longest that a writer waited for one answer, and Told what it was told then; empty: that the change
	// was committed.
	Longest time.Duration
	Told    string
	// Writes is how long it took after the end until all writers had committed something; Converged until all nodes ran
	// that, and Found until they knew what had registered since.
	Writes, Converged, Found time.Duration
	// Ready says what /readyz of the control planes said.
	Ready string
	// Requests to the nodes, and Failed those of them that were not answered well.
	Requests, Failed int
	// Logged are the lines about the fault that the control planes logged.
	Logged int
}

// Table writes rows as a Markdown table.
func Table(to io.Writer, rows []Row) {
	fmt.Fprintln(to, "| fault | acknowledged | lost, twice | refused, but done | unknown (done) | longest wait "+
		"| writes after | nodes agree after | `/readyz` | requests (failed) |")
	fmt.Fprintln(to, "|---|---|---|---|---|---|---|---|---|---|")
	for _, r := range rows {
		if r.Skipped != "" {
			fmt.Fprintf(to, "| %s | left out: %s | | | | | | | | |\n", r.Fault, r.Skipped)
			continue
		}
		agree := seconds(r.Converged)
		if r.Found > 0 {
			agree += ", found " + seconds(r.Found)
		}
		fmt.Fprintf(to, "| %s | %d | %d, %d | %d | %d (%d) | %s | %s | %s | %s | %d (%d) |\n",
			r.Fault, r.Acknowledged, r.Lost, r.Twice, r.Against, r.Unknown, r.Done, seconds(r.Longest),
			seconds(r.Writes), agree, r.Ready, r.Requests, r.Failed)
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// wrong returns what may not be, whatever the fault.
func (r *Row) wrong() string {
	var all []string
	for what, n := range map[string]int{
		"acknowledged commits are lost": r.Lost, "commits are there twice": r.Twice,
		"refused commits were done": r.Against, "requests failed": r.Failed,
	} {
		if n > 0 {
			all = append(all, fmt.Sprint(n, " ", what))
		}
	}
	return strings.Join(all, ", ")
}

// Limit is how long a system may take to be whole again.
const Limit = 2 * time.Minute

// Run has the system go through a fault.
func (s *System) Run(t testing.TB, f Fault) Row {
	row := Row{Fault: f.Name}
	if f.Skip != nil {
		if row.Skipped = f.Skip(s); row.Skipped != "" {
			return row
		}
	}
	w := s.write()
	watch := s.watchReadiness()
	traffic := s.send()
	w.await(t, "all writers before the fault", time.Now())
	epoch := s.nodes[0].runs().Epoch
	linesBefore := s.logged()
	began := time.Now()
	t.Logf("%s: begins", f.Name)
	f.Begin(s)
	pause(f.Lasts)
	f.End(s)
	ended := time.Now()
	t.Logf("%s: is over after %v", f.Name, ended.Sub(began).Round(time.Millisecond))
	if f.Finds {
		s.register(s.services[1])
	}
	found := make(chan time.Duration, 1)
	go func() {
		if f.Finds {
			found <- s.awaitTraffic(ended)
		} else {
			found <- 0
		}
	}()
	head := w.await(t, "all writers after the fault", ended)
	row.Writes = time.Since(ended)
	former := "" // of any epoch
	if f.Restores {
		former = epoch
	}
	s.awaitNodes(t, head, former)
	row.Converged = time.Since(ended)
	if row.Found = <-found; row.Found < 0 {
		t.Errorf("%s: what has registered since was not found within %v", f.Name, Limit)
	}
	watch.awaitReady(t)
	attempts := w.stop()
	row.Ready = watch.stop(began, ended)
	row.Requests, row.Failed = traffic.stop(t, f.Name)
	row.Logged = s.logged() - linesBefore
	if f.Finds {
		s.deregister(s.services[1])
	}
	since := began.Add(-time.Hour)
	if f.Restores {
		since = ended
	}
	judge(&row, attempts, s.history(t, newest(attempts)), since, f.Restores)
	if wrong := row.wrong(); wrong != "" {
		t.Errorf("%s: %s", f.Name, wrong)
	}
	return row
}

// pause is how long a fault lasts.
func pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
