// Package redis is a node's access to Redis: how it is reached, whether it is, and what failed. It knows nothing of
// what is kept there.
package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"gateway.internal/shared/identity"
)

// Timeout is how long opening a connection, and each command, may take.
const Timeout = time.Second

// maxConnections is how many connections a node has at a time, those that listen left out.
const maxConnections = 16

// errURL is all that is said of a wrong URL: any part of it may be of a password.
var errURL = errors.New("has to be redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss:// for TLS; " +
	"characters in USER and PASSWORD other than letters, digits and -._~ are written as % and two hexadecimal digits")

// Check returns what is wrong with a URL. What it says has no part of the URL, which may contain a password.
func Check(address string) error {
	_, err := optionsOf(address)
	return err
}

func optionsOf(address string) (*goredis.Options, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "redis" && u.Scheme != "rediss") || u.Hostname() == "" || u.RawQuery != "" || u.Fragment != "" {
		return nil, errURL
	}
	o, err := goredis.ParseURL(address)
	if err != nil {
		return nil, errURL
	}
	if o.TLSConfig != nil {
		o.TLSConfig.MinVersion = tls.VersionTLS12
	}
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout, o.PoolTimeout = Timeout, Timeout, Timeout, Timeout
	o.ContextTimeoutEnabled = true
	o.MaxRetries, o.DialerRetries = -1, 1 // who uses it decides what is tried again, and when
	o.PoolSize, o.MaxActiveConns = maxConnections, maxConnections
	o.DisableIdentity = true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return o, nil
}

// Client is a node's access to one Redis server. It is safe for concurrent use.
type Client struct {
	*goredis.Client
	up     atomic.Bool
	errors atomic.Uint64
}

// New returns the access to the server of a URL. Nothing is connected before it is used. Close ends it.
func New(address string) (*Client, error) { return NewWith(address, nil) }

// NewWith is New with files for TLS: a certificate to show, which is read again when it changes, and the authorities of
// the server's, which are read once. Without authorities they are the system's.
func NewWith(address string, files *identity.Reloader) (*Client, error) {
	o, err := optionsOf(address)
	if err != nil {
		return nil, fmt.Errorf("the URL of Redis %w", err)
	}
	if files != nil {
		if o.TLSConfig == nil {
			return nil, errors.New("files for TLS to Redis have to come with a URL that begins with rediss://")
		}
		o.TLSConfig.RootCAs = files.Current().Authorities
		o.TLSConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := files.Current().Certificate; c != nil {
				return c, nil
			}
			return &tls.Certificate{}, nil
		}
	}
	quiet()
	return &Client{Client: goredis.NewClient(o)}, nil
}

// Address returns where the server is, without a password.
func (c *Client) Address() string { return fmt.Sprintf("%s/%d", c.Options().Addr, c.Options().DB) }

// Database returns the number of the database. Channels, unlike keys, do not belong to one.
func (c *Client) Database() int { return c.Options().DB }

// Up says that the server answers, and reports whether it did not before.
func (c *Client) Up() (changed bool) { return !c.up.Swap(true) }

// IsUp reports whether the server answered last.
func (c *Client) IsUp() bool { return c.up.Load() }

// Failed counts an error: the server does not answer as it should. It reports whether it did before.
func (c *Client) Failed() (changed bool) {
	c.errors.Add(1)
	return c.up.Swap(false)
}

// Refused reports whether an error is the server's answer, and not a failure to get one.
func Refused(err error) bool {
	var answer goredis.Error
	return errors.As(err, &answer)
}

var (
	upDesc     = prometheus.NewDesc("gateway_redis_up", "1 while Redis (--redis) answers this node, otherwise 0.", nil, nil)
	errorsDesc = prometheus.NewDesc("gateway_redis_errors_total",
		"Connections to Redis that failed or broke off, and commands that it did not carry out.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *Client) Describe(ch chan<- *prometheus.Desc) {
	ch <- upDesc
	ch <- errorsDesc
}

// Collect implements prometheus.Collector.
func (c *Client) Collect(ch chan<- prometheus.Metric) {
	up := 0.0
	if c.up.Load() {
		up = 1
	}
	ch <- prometheus.MustNewConstMetric(upDesc, prometheus.GaugeValue, up)
	ch <- prometheus.MustNewConstMetric(errorsDesc, prometheus.CounterValue, float64(c.errors.Load()))
}

// quiet keeps the library from writing to standard error: what fails comes back as an error, and is logged once.
var quiet = sync.OnceFunc(func() { goredis.SetLogger(silent{}) })

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}
