//! A message that is too large to decode is refused with the code and words of etcd's gRPC library.

use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tower::{Layer, Service};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";
const OUT_OF_RANGE: &str = "11";
const RESOURCE_EXHAUSTED: &str = "8";

/// Rewrites such refusals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OversizedLayer;

impl<S> Layer<S> for OversizedLayer {
    type Service = Oversized<S>;

    fn layer(&self, inner: S) -> Oversized<S> {
        Oversized(inner)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Oversized<S>(S);

impl<S, B> Service<Request<B>> for Oversized<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let response = self.0.call(request);
        Box::pin(async move {
            let mut response = response.await?;
            if let Some(message) = translated(&response) {
                response
                    .headers_mut()
                    .insert(STATUS, HeaderValue::from_static(RESOURCE_EXHAUSTED));
                response.headers_mut().insert(MESSAGE, message);
            }
            Ok(response)
        })
    }
}

fn translated<B>(response: &Response<B>) -> Option<HeaderValue> {
    if response.headers().get(STATUS)? != OUT_OF_RANGE {
        return None;
    }
    let (received, limit) = sizes(response.headers().get(MESSAGE)?.to_str().ok()?)?;
    let text = format!("grpc: received message larger than max ({received} vs. {limit})");
    HeaderValue::from_str(&text.replace(' ', "%20")).ok()
}

/// The two sizes in the gRPC library's own words.
fn sizes(message: &str) -> Option<(u64, u64)> {
    let message = message.replace("%20", " ");
    let rest = message.split_once("decoded message length too large: found ")?.1;
    let (received, rest) = rest.split_once(" bytes, the limit is: ")?;
    let limit = rest.split_once(" bytes")?.0;
    Some((received.parse().ok()?, limit.parse().ok()?))
}
