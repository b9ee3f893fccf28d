package api

import (
	"context"

	fifev1 "github.com/fifegateway/fife/gen/fife/v1"
)

type signInService struct {
	fifev1.UnimplementedSignInServiceServer
	bearers *Bearers
}

// GetSignInSettings answers anybody, from the node's own settings.
func (s *signInService) GetSignInSettings(
	context.Context, *fifev1.GetSignInSettingsRequest,
) (*fifev1.GetSignInSettingsResponse, error) {
	if s.bearers == nil || s.bearers.People == nil {
		return &fifev1.GetSignInSettingsResponse{}, nil
	}
	settings := s.bearers.People.Settings()
	return &fifev1.GetSignInSettingsResponse{
		Issuer: settings.Issuer, ClientId: settings.ClientID, IssuerCa: string(settings.CA),
	}, nil
}
