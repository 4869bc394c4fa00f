package acme

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/mholt/acmez/v3/acme"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// defaultKeyType is what most clients verify fastest.
const defaultKeyType = "ecdsa-p256"

// renewal is what a server says about when to renew (RFC 9773), and when to ask it again. The zero value is that it was
// not asked.
type renewal struct {
	serial string // of the certificate that it is about
	info   acme.RenewalInfo
	ask    time.Time
}

func (k *Keeper) directory(m *configv1.Certificate) string {
	return cmp.Or(m.GetAcme().GetDirectoryUrl(), k.settings.DirectoryURL)
}

// desired is what a certificate asks for and what it has: as long as it is the same there is no reason to look again.
func (k *Keeper) desired(m *configv1.Certificate) string {
	a := m.GetAcme()
	return strings.Join([]string{k.directory(m), a.GetKeyType(), a.GetProfile(), strings.Join(m.GetHosts(), ","), m.GetCertPem()}, "\n")
}

// missing says why there has to be another certificate, whatever the time; empty: it is as it should be.
func missing(m *configv1.Certificate, leaf *x509.Certificate, directory string) string {
	switch {
	case leaf == nil:
		return "there is none yet"
	case m.GetObtained() == nil:
		return "the one there is was not obtained by ACME"
	case m.GetObtained().GetDirectoryUrl() != directory:
		return "the one there is comes from another directory"
	case keyType(leaf) != cmp.Or(m.GetAcme().GetKeyType(), defaultKeyType):
		return "the one there is has another type of key"
	}
	for _, h := range m.GetHosts() {
		if !config.Covers(leaf, h) {
			return "the one there is does not have the host " + h
		}
	}
	if n := len(leaf.DNSNames) + len(leaf.IPAddresses); n > len(m.GetHosts()) {
		return "the one there is has hosts that are not wanted any more"
	}
	return ""
}

func keyType(leaf *x509.Certificate) string {
	switch key := leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		return fmt.Sprintf("ecdsa-p%d", key.Curve.Params().BitSize)
	case *rsa.PublicKey:
		return fmt.Sprintf("rsa-%d", key.N.BitLen())
	}
	return ""
}

// renewAt returns when a certificate is to be renewed: when the server suggests, else when a third of its lifetime is
// left. Whatever is suggested, a tenth of the lifetime is left for attempts, and at least a third of it, or an hour,
// lies between two renewals: a server that wants each new certificate replaced at once must not make a loop.
func renewAt(leaf *x509.Certificate, obtained time.Time, info acme.RenewalInfo) time.Time {
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	if !info.HasWindow() {
		return leaf.NotAfter.Add(-lifetime / 3)
	}
	at := earlier(info.SelectedTime, leaf.NotAfter.Add(-lifetime/10))
	if first := obtained.Add(min(lifetime/3, time.Hour)); at.Before(first) {
		return first
	}
	return at
}

// backOff returns how long to wait after so many failures in a row, at least one.
func backOff(failures int) time.Duration {
	wait := firstRetry
	for range failures - 1 {
		if wait = 3 * wait; wait >= lastRetry {
			wait = lastRetry
			break
		}
	}
	return wait - wait/10 + rand.N(wait/5)
}

func leafOf(chain string) *x509.Certificate {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

// attend looks at one certificate and obtains another one where that is due.
func (k *Keeper) attend(ctx context.Context, m *configv1.Certificate, before renewal) result {
	ctx, cancel := context.WithTimeout(ctx, orderTimeout)
	defer cancel()
	leaf := leafOf(m.GetCertPem())
	reason := missing(m, leaf, k.directory(m))
	r := result{id: m.GetId(), name: m.GetName()}
	if reason == "" {
		r.renewal = k.askRenewal(ctx, m, leaf, before)
		at := renewAt(leaf, m.GetObtained().GetAt().AsTime(), r.renewal.info)
		if at.After(time.Now()) {
			r.next = earlier(at, r.renewal.ask)
			return r
		}
		reason = "it is time to renew"
		if r.renewal.info.ExplanationURL != "" {
			reason += ", see " + r.renewal.info.ExplanationURL
		}
	}
	k.log.Info("acme: obtaining a certificate", "certificate", m.GetName(), "hosts", m.GetHosts(), "directory", k.directory(m), "reason", reason)
	if r.err = k.obtain(ctx, m, leaf); r.err != nil {
		if ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded) {
			k.failed.Inc()
		}
		return r
	}
	k.obtained.Inc()
	r.next = time.Now() // of the new one
	return r
}

// askRenewal asks the server when to renew, if it is time to. A server that can't say, or does not answer, leaves it to
// the lifetime.
func (k *Keeper) askRenewal(ctx context.Context, m *configv1.Certificate, leaf *x509.Certificate, before renewal) renewal {
	serial, now := leaf.SerialNumber.String(), time.Now()
	same := before.serial == serial
	if same && before.ask.After(now) {
		return before
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	next := renewal{serial: serial, ask: now.Add(askInterval)}
	info, err := k.client(k.directory(m)).GetRenewalInfo(ctx, leaf)
	if err != nil {
		if !errors.Is(err, acme.ErrUnsupported) {
			k.log.Warn("acme: the server does not say when to renew", "certificate", m.GetName(), "error", err.Error())
		}
		if same {
			next.info = before.info
		}
		return next
	}
	if same && info.SameWindow(before.info) {
		info.SelectedTime = before.info.SelectedTime // a time is drawn once for a window
	}
	next.info = info
	if info.RetryAfter != nil {
		next.ask = *info.RetryAfter
	}
	if soonest := now.Add(time.Minute); next.ask.Before(soonest) {
		next.ask = soonest
	}
	return next
}
