/** The errors this library throws, one class per kind of trouble, named as in Python. */

/** Catching it catches everything thrown on purpose. */
export class EdgegrainError extends Error {
  override name = "EdgegrainError";
}

/** A payload is truncated, corrupt, of an unknown version, or names another LR contract. */
export class PayloadError extends EdgegrainError {
  override name = "PayloadError";
}

/** A picture cannot be read, or has a size that is not supported. */
export class ImageError extends EdgegrainError {
  override name = "ImageError";
}

/** A bundle is incomplete or damaged, or lists something this release does not know. */
export class BundleError extends EdgegrainError {
  override name = "BundleError";
}

/** This device does not compute what the bundle's golden vectors say. */
export class DeviceError extends EdgegrainError {
  override name = "DeviceError";
}

/** The service could not be reached, or refused the request. */
export class ServiceError extends EdgegrainError {
  override name: string = "ServiceError";

  /** `status` is the HTTP status of a refusal; undefined if there was none. */
  constructor(
    message: string,
    readonly status?: number,
  ) {
    super(message);
  }
}

/** No answer came from the service: no network, no such host, or a connection that broke off. */
export class UnreachableError extends ServiceError {
  override name = "UnreachableError";
}

/** True if the same request may succeed later: there was no answer, or the service is busy or broken. */
export function isTemporary(error: unknown): boolean {
  if (!(error instanceof ServiceError)) return false;
  const { status = 0 } = error;
  return error instanceof UnreachableError || status === 429 || status >= 500;
}

/** By name: those of classes do not survive a minifier. */
const CLASSES: Readonly<Record<string, new (message: string, status?: number) => EdgegrainError>> = {
  PayloadError,
  ImageError,
  BundleError,
  DeviceError,
  ServiceError,
  UnreachableError,
};

/** An error again from its name, message and status, which is all that crosses from a worker. */
export function errorOf(name: string, message: string, status?: number): EdgegrainError {
  return new (CLASSES[name] ?? EdgegrainError)(message, status);
}
