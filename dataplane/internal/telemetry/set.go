package telemetry

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sets keeps the metrics of parts of the configuration, such as middleware. It is a prometheus.Collector that does not
// say beforehand what it collects, since that changes with the configuration. The zero value is ready. It is safe for
// concurrent use.
type Sets struct {
	named Named[string, Set]

	mu      sync.Mutex
	metrics map[string]*definition // by name; a few for each type of part, for a process's life
}

// Set is the metrics of one part of the configuration. What holds one of them, such as a step, keeps all of them: their
// series end when nothing does any more, and go on where a change of the configuration makes the part anew. It is safe
// for concurrent use; the metrics of a nil set are not collected.
type Set struct {
	mu     sync.Mutex
	of     *Sets
	prefix string
	labels []string          // names and values in turn
	series map[string]member // by name and values of labels
}

// definition is what all series of a metric have in common.
type definition struct {
	help   string
	kind   reflect.Type
	labels []string
	desc   *prometheus.Desc
}

type member struct {
	series     series
	definition *definition
	values     []string
}

// series is one metric with its labels.
type series interface {
	of(s *Set)
	metric(d *prometheus.Desc, values []string) prometheus.Metric
}

// Of returns the set of a part of the configuration, the same one for as long as somebody holds it. prefix is what the
// names of its metrics begin with, such as "gateway_ext_auth_", and labels are names and values in turn.
func (all *Sets) Of(prefix string, labels ...string) *Set {
	s := all.named.Get(prefix + "\x00" + strings.Join(labels, "\x00"))
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of, s.prefix, s.labels, s.series = all, prefix, labels, map[string]member{}
	}
	return s
}

// Counter is a metric that only grows.
type Counter struct {
	held
	n atomic.Uint64
}

// Add counts n more.
func (c *Counter) Add(n uint64) { c.n.Add(n) }

// Gauge is a metric that goes up and down.
type Gauge struct {
	held
	n atomic.Int64
}

// Add changes the value by n and returns what it is then.
func (g *Gauge) Add(n int64) int64 { return g.n.Add(n) }

// Durations is how often something was done, and how long that took altogether, in seconds.
type Durations struct {
	held
	count, nanos atomic.Uint64
}

// Observe counts one that took a time.
func (d *Durations) Observe(took time.Duration) {
	d.count.Add(1)
	d.nanos.Add(uint64(max(took, 0)))
}

// held is what keeps a set while one of its metrics is used.
type held struct{ set *Set }

func (h *held) of(s *Set) { h.set = s }

func (c *Counter) metric(d *prometheus.Desc, values []string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(c.n.Load()), values...)
}

func (g *Gauge) metric(d *prometheus.Desc, values []string) prometheus.Metric {
	return prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(g.n.Load()), values...)
}

func (d *Durations) metric(desc *prometheus.Desc, values []string) prometheus.Metric {
	return prometheus.MustNewConstSummary(desc, d.count.Load(), float64(d.nanos.Load())/1e9, nil, values...)
}

// Counter returns the counter of a name, which follows the set's prefix, and of labels, which are names and values in
// turn and follow the set's. All series of a name have the same help and names of labels: what has others is a defect,
// and panics.
func (s *Set) Counter(name, help string, labels ...string) *Counter {
	return in[Counter](s, name, help, labels)
}

// Gauge is the same as Counter for a gauge.
func (s *Set) Gauge(name, help string, labels ...string) *Gauge {
	return in[Gauge](s, name, help, labels)
}

// Durations is the same as Counter for durations.
func (s *Set) Durations(name, help string, labels ...string) *Durations {
	return in[Durations](s, name, help, labels)
}

// in returns a set's series, which it makes where there is none.
func in[M any, P interface {
	*M
	series
}](s *Set, name, help string, labels []string) *M {
	if s == nil {
		return new(M)
	}
	names, values := parted(append(slices.Clone(s.labels), labels...))
	d := s.of.define(s.prefix+name, definition{help: help, kind: reflect.TypeFor[M](), labels: names})
	key := name + "\x00" + strings.Join(values, "\x00")
	s.mu.Lock()
	defer s.mu.Unlock()
	if m, made := s.series[key]; made {
		return m.series.(P)
	}
	m := P(new(M))
	m.of(s)
	s.series[key] = member{m, d, values}
	return m
}

// parted parts names from values.
func parted(labels []string) (names, values []string) {
	for pair := range slices.Chunk(labels, 2) {
		names, values = append(names, pair[0]), append(values, pair[1])
	}
	return names, values
}

func (all *Sets) define(name string, d definition) *definition {
	all.mu.Lock()
	defer all.mu.Unlock()
	if known := all.metrics[name]; known != nil {
		if known.help != d.help || known.kind != d.kind || !slices.Equal(known.labels, d.labels) {
			panic(fmt.Sprintf("the metric %s is defined in two ways: as %s%v %q and as %s%v %q",
				name, known.kind.Name(), known.labels, known.help, d.kind.Name(), d.labels, d.help))
		}
		return known
	}
	d.desc = prometheus.NewDesc(name, d.help, d.labels, nil)
	if all.metrics == nil {
		all.metrics = map[string]*definition{}
	}
	all.metrics[name] = &d
	return &d
}

// Describe implements prometheus.Collector.
func (*Sets) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (all *Sets) Collect(ch chan<- prometheus.Metric) {
	all.named.Each(func(_ string, s *Set) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, m := range s.series {
			ch <- m.series.metric(m.definition.desc, m.values)
		}
	})
}
