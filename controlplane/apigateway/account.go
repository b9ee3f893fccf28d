package apigateway

import "net/http"

// getAccount answers what there is to say of an account: Fife has one, with no limits and
// features of its own.
func (*Gateway) getAccount(*call) (answer, error) {
	return answer{http.StatusOK, struct {
		Features      []string `json:"features"`
		APIKeyVersion string   `json:"apiKeyVersion"`
	}{[]string{}, "4"}}, nil
}

// none lists what Fife never has any of.
func (*Gateway) none(*call) (answer, error) {
	return answer{http.StatusOK, list[struct{}]{Item: []struct{}{}}}, nil
}

// noneOfAPI lists what no API of Fife ever has any of.
func (g *Gateway) noneOfAPI(c *call) (answer, error) {
	if _, err := g.getAPI(c, c.path[0]); err != nil {
		return answer{}, err
	}
	return g.none(c)
}
