//! The SDK's requests over the client that all of a function shares.

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body_util::Full;
use http_client::Client;

/// Hands requests to a [`Client`]. Limits of time are the SDK's.
#[derive(Debug, Clone)]
pub(crate) struct Connector(Client);

impl Connector {
    pub(crate) fn shared(client: Client) -> SharedHttpClient {
        SharedHttpClient::new(Self(client))
    }
}

impl HttpClient for Connector {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let request = match request.try_into_http1x() {
            Ok(request) => request.map(|body| Full::new(Bytes::copy_from_slice(body.bytes().unwrap_or_default()))),
            Err(error) => return HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        };
        let client = self.0.clone();
        HttpConnectorFuture::new(async move {
            // Whatever went wrong on the way may go well the next time.
            let response = client.send(request).await.map_err(|error| ConnectorError::io(error.into()))?;
            HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
