package acme

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/mholt/acmez/v3/acme"

	"gateway.internal/controlplane/internal/catalog"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// highestPriority puts challenges before every other route.
const highestPriority = 1_000_000

// token is the base64url of RFC 8555 section 8.3: a server can't have other paths answered.
var token = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}$`)

// prove has the hosts of an order validated, and returns the routes that answer meanwhile; also with an error, since
// they are there.
func (k *Keeper) prove(ctx context.Context, client *acme.Client, acc acme.Account, m *configv1.Certificate, order acme.Order) ([]*configv1.Route, error) {
	var routes []*configv1.Route
	var pending []acme.Authorization
	var challenges []acme.Challenge
	for _, url := range order.Authorizations {
		authz, err := client.GetAuthorization(ctx, acc, url)
		if err != nil {
			return nil, fmt.Errorf("read an authorization: %w", err)
		}
		if authz.Status == acme.StatusValid {
			continue // proved by an earlier order
		}
		ch, err := http01(authz)
		if err != nil {
			return nil, err
		}
		pending, challenges = append(pending, authz), append(challenges, ch)
		routes = append(routes, challengeRoute(m.GetName(), authz.Identifier.Value, ch))
	}
	if len(routes) == 0 {
		return nil, nil
	}
	revision, err := k.commit(ctx, "challenges for certificate "+m.GetName(), func(*catalog.Version) ([]config.Edit, error) {
		var edits []config.Edit
		for _, r := range routes {
			edits = append(edits, config.Edit{Kind: config.Route, Put: r})
		}
		return edits, nil
	})
	if err != nil {
		return routes, err // they may be there all the same: the store may have broken off at the commit
	}
	if err := k.awaitNodes(ctx, revision); err != nil {
		return routes, err
	}
	for _, ch := range challenges {
		if _, err := client.InitiateChallenge(ctx, acc, ch); err != nil {
			return routes, fmt.Errorf("have %s validated: %w", ch.Identifier.Value, err)
		}
	}
	for _, authz := range pending {
		if _, err := client.PollAuthorization(ctx, acc, authz); err != nil {
			return routes, fmt.Errorf("validation of %s: %w", authz.Identifier.Value, err)
		}
	}
	return routes, nil
}

func http01(authz acme.Authorization) (acme.Challenge, error) {
	for _, ch := range authz.Challenges {
		if ch.Type != acme.ChallengeTypeHTTP01 {
			continue
		}
		if !token.MatchString(ch.Token) {
			return ch, fmt.Errorf("the server's token for %s is not base64url (RFC 8555 section 8.3)", authz.Identifier.Value)
		}
		ch.Identifier = authz.Identifier
		return ch, nil
	}
	return acme.Challenge{}, fmt.Errorf("the server offers no challenge %s for %s", acme.ChallengeTypeHTTP01, authz.Identifier.Value)
}

// challengeRoute is the route that answers a challenge.
func challengeRoute(certificate, host string, ch acme.Challenge) *configv1.Route {
	sum := sha256.Sum256([]byte(ch.Token))
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
		host = "[" + host + "]"
	}
	return &configv1.Route{
		Name: "acme-" + hex.EncodeToString(sum[:12]), Labels: map[string]string{config.ManagedByLabel: config.ManagedByACME, "certificate": certificate},
		Path: config.ChallengePath + ch.Token, Methods: []string{"GET", "HEAD"}, Hosts: []string{host}, Priority: highestPriority,
		DirectResponse: &configv1.DirectResponse{Body: ch.KeyAuthorization, Headers: map[string]string{"content-type": "application/octet-stream"}},
	}
}

// awaitNodes waits until the connected nodes run a revision or have refused it. Those that do neither are not waited
// for for ever: the server may well ask another one.
func (k *Keeper) awaitNodes(ctx context.Context, revision uint32) error {
	const interval = 50 * time.Millisecond
	for end := time.Now().Add(nodesTimeout); ; {
		connected, behind := 0, ""
		for _, n := range k.nodes.Nodes() {
			if !n.GetConnected() {
				continue
			}
			connected++
			if n.GetRevision() < revision && n.GetLastRejection().GetRevision() < revision {
				behind = n.GetId()
			}
		}
		switch {
		case connected > 0 && behind == "":
			if !sleep(ctx, k.settle) {
				return ctx.Err()
			}
			return nil
		case time.Now().After(end) && connected == 0:
			return errors.New("no node is connected that could answer the challenges")
		case time.Now().After(end):
			k.log.Warn("acme: not all nodes answer challenges yet; going on without them", "node", behind, "revision", revision)
			return nil
		}
		if !sleep(ctx, interval) {
			return ctx.Err()
		}
	}
}

// removals deletes those of the routes that are there.
func removals(v *catalog.Version, routes []*configv1.Route) []config.Edit {
	var edits []config.Edit
	for _, r := range routes {
		if e := v.Config.ByName(config.Route, r.GetName()); e != nil && config.IsTransient(e.Message) {
			edits = append(edits, config.Edit{Kind: config.Route, Delete: e.ID()})
		}
	}
	return edits
}

// removeRoutes ends the challenges of an order that failed, also when ctx has ended.
func (k *Keeper) removeRoutes(ctx context.Context, m *configv1.Certificate, routes []*configv1.Route) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_, err := k.commit(ctx, "challenges for certificate "+m.GetName()+" are over", func(v *catalog.Version) ([]config.Edit, error) {
		return removals(v, routes), nil
	})
	if err != nil {
		k.log.Warn("acme: challenges stay until the next start", "certificate", m.GetName(), "error", err.Error())
	}
}

// sweep removes the challenges of a control plane that did not come to it.
func (k *Keeper) sweep(ctx context.Context) error {
	var left []*configv1.Route
	for e := range k.catalog.Current().Config.All(config.Route) {
		if config.IsTransient(e.Message) {
			left = append(left, e.Message.(*configv1.Route))
		}
	}
	if len(left) == 0 {
		return nil
	}
	_, err := k.commit(ctx, "challenges of earlier orders are over", func(v *catalog.Version) ([]config.Edit, error) { return removals(v, left), nil })
	return err
}
