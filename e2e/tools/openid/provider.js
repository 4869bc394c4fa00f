// An OpenID provider whose users sign in by sending a form, which browsers do by themselves: node provider.js PORT
// ORIGIN... Its keys are made anew at each start. The clients "shop" and "desk" may come back to each ORIGIN, "desk" with
// access tokens that last. "api" and those of groups ask for tokens of their own, which name their groups.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import Provider from 'oidc-provider';

const [port, ...origins] = process.argv.slice(2);
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const groups = { ops: ['platform', 'staff'], team: ['shop-team'], guest: ['others'], brief: ['platform'] };
const sent = (action) => `<!doctype html><title>sign in</title><form method="post" action="${action}"></form>
<script>document.forms[0].submit()</script>`;

const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  clients: [
    {
      client_id: 'shop', client_secret: 'secret-of-the-shop',
      redirect_uris: origins.map((o) => `${o}/oauth2/callback`), post_logout_redirect_uris: origins.map((o) => `${o}/`),
      grant_types: ['authorization_code', 'refresh_token'],
    },
    {
      client_id: 'desk', client_secret: 'secret-of-the-desk', redirect_uris: origins.map((o) => `${o}/desk/callback`),
      grant_types: ['authorization_code', 'refresh_token'],
    },
    {
      client_id: 'api', client_secret: 'secret-of-the-api', redirect_uris: [], response_types: [],
      grant_types: ['client_credentials'],
    },
    ...Object.keys(groups).map((id) => ({
      client_id: id, client_secret: `secret-of-the-${id}`, redirect_uris: [], response_types: [],
      grant_types: ['client_credentials'],
    })),
  ],
  cookies: { keys: [randomUUID()] },
  claims: { openid: ['sub', 'groups'] },
  conformIdTokenClaims: false,
  extraTokenClaims: (_, token) => ({ groups: groups[token.clientId] }),
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: ['customers'] }) }),
  issueRefreshToken: () => true,
  rotateRefreshToken: true,
  // A session is prolonged as often as its access token ends.
  ttl: {
    AccessToken: (_, token, client) => (client.clientId === 'shop' ? 2 : 600), IdToken: 3600,
    ClientCredentials: (_, token, client) => (client.clientId === 'brief' ? 5 : 600),
    RefreshToken: 600, Grant: 600, Session: 600, Interaction: 600,
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      logoutSource: (ctx, form) => {
        ctx.body = `<!doctype html>${form.replace('</form>', '<input type="hidden" name="logout" value="yes"></form>')}
<script>document.forms[0].submit()</script>`;
      },
    },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'read', audience: resource, accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
});

provider.use(async (ctx, next) => {
  if (!ctx.path.startsWith('/interaction/')) return next();
  if (ctx.method === 'GET') {
    ctx.type = 'html';
    ctx.body = sent(ctx.path);
    return undefined;
  }
  const { prompt, params, session } = await provider.interactionDetails(ctx.req, ctx.res);
  if (prompt.name === 'login') {
    return provider.interactionFinished(ctx.req, ctx.res, { login: { accountId: 'ann' } });
  }
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  return provider.interactionFinished(ctx.req, ctx.res, { consent: { grantId: await grant.save() } });
});

provider.listen(port, '127.0.0.1', () => console.log('ready'));
