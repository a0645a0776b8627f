/** Calls to the service that serves this page. */

import { readKey } from "./key.js";
import { t } from "./language.js";

/** The service's URL, including any prefix of a proxy. This file is in its folder `page/`. */
const ROOT = new URL("../", import.meta.url);

export const address = (path) => new URL(path, ROOT).href;

/** An error that the service answered, or with status 0, no answer at all. */
export class ApiError extends Error {
  constructor(status, fields = {}) {
    super(fields.message ?? t("the service answered with {status}", { status }));
    this.status = status;
    this.code = fields.code ?? null;
    this.param = fields.param ?? null;
    this.requestId = fields.request_id ?? null;
    this.retryAfterS = fields.retryAfterS ?? null;
  }

  get needsKey() {
    return this.status === 401 || this.status === 403;
  }
}

/** path: such as "rank". Returns the Response; throws ApiError. */
export async function fetchFrom(path, method = "GET", body = undefined) {
  const headers = {};
  if (readKey()) headers.Authorization = `Bearer ${readKey()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(address(path), {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
    });
  } catch {
    throw new ApiError(0, { message: t("The service can't be reached. Is it running?") });
  }
  if (!response.ok) throw await readError(response);
  return response;
}

export const get = async (path) => (await fetchFrom(path)).json();
export const post = async (path, body) => (await fetchFrom(path, "POST", body)).json();
export const put = async (path, body) => (await fetchFrom(path, "PUT", body)).json();

async function readError(response) {
  const retryAfterS = Number(response.headers.get("Retry-After")) || null;
  let fields = {};
  try {
    fields = (await response.json()).error ?? {};
  } catch {
    // a proxy's own error page, of which only the status is used
  }
  fields.request_id ??= response.headers.get("X-Request-Id");
  return new ApiError(response.status, { ...fields, retryAfterS });
}
