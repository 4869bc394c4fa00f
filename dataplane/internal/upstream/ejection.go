package upstream

import (
	"gateway.internal/dataplane/internal/upstream/outlier"
	"gateway.internal/shared/config"
)

// ejection tells endpoints what came of their requests. It implements Observer.
type ejection struct{}

// Ended implements Observer.
func (ejection) Ended(r *Result) { r.Endpoint.outlier.Ended(&r.Result) }

// ejects has the service's results counted while it has rules for that; the registry's changing is held.
func (s *Service) ejects() {
	wanted := s.current.Load().settings.Outlier != nil
	switch {
	case wanted && s.stopEjecting == nil:
		s.stopEjecting = s.Observe(ejection{})
	case !wanted && s.stopEjecting != nil:
		s.stopEjecting()
		s.stopEjecting = nil
	}
}

// judged returns the services whose endpoints may be ejected; changing is held.
func (r *Registry) judged() (services []outlier.Service) {
	for _, s := range r.services {
		s.ejects()
		c := s.current.Load()
		if c.settings.Outlier == nil {
			continue
		}
		judged := outlier.Service{ID: s.ID, Name: c.name, Settings: *c.settings.Outlier}
		for i, e := range c.endpoints {
			judged.Endpoints = append(judged.Endpoints, outlier.Endpoint{
				Host: &e.outlier, State: &e.State, Address: e.address, Weight: config.Weight(c.resolved[i].entry),
			})
		}
		services = append(services, judged)
	}
	return services
}
